"""
What day2 does: plan and apply revisions to one database, safely.

Knows no event shape and no Lambda. ``outcome``, ``model``, ``errors``, ``target`` and ``plan``
import the standard library and each other only; ``aws`` is the only door to boto3, ``database``
and ``diagnosis`` to SQLAlchemy and psycopg2, ``revisions`` to Alembic; ``operations`` is what
migrations share. ``tests/unit/test_architecture.py`` enforces it.
"""
