"""
Read the SQL that each revision would run, and say what in it is dangerous on a live database.

    python -m infra.lint

The SQL of upgrade and downgrade is parsed with PostgreSQL's own parser (pglast), also inside DO
blocks and in what they EXECUTE. Not read: the bodies of functions, which a migration only makes.
A finding that is meant stays quiet by a comment in the function that causes it, with the reason:

    # lint: allow grant-to-public: every role may see the calendar
"""
