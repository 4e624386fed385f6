"""
What day2 does: plan and apply revisions to one database, safely. It knows no event and no Lambda.

A module imports only from what stands below it; ``tests/house/test_architecture.py`` holds it::

    operations/        what migrations import: a contract with revisions deployed years ago
        roles          roles and logins
        schemas        who owns them, who is kept out
        tables         tables, indexes, who reads them
        statements     as another role, or from a file
        existing       what is there and is not ours: refused, or taken up
        sending        to the database, or onto paper

    aws/               the door to AWS
        account        all that a run needs of it, in one value
        rds            instances, clusters, tokens to enter them
        described      what RDS says of them, read
        parameter_store  declared targets, and the observed state
        secrets_manager  the masters' secrets, and those of logins
        messages       the bus, the stack's own queue, topics
        calls          clients, pages, and what is busy asked again
        failures       what botocore raises, translated
        tags           as the services write them

    actions/           what a request does
        carry_out      which action, and what a failure means to whoever asked
        migrate        the story: one database brought to its target
        goal           the target as it is declared now, and the way there
        apply          a plan carried out, tried again, read back
        look           status and plan: nothing is written
        check          whether the database has what the revisions promise
        by_hand        rollback, stamp, adopt
        later          an event put off, in the stack's own queue
        keeping        which stack keeps the database
        recorded       a run written down before it begins
        takeover       what is there already, and not of our making
        logins         passwords in line with the database
        writer         alone at the server that writes, and at the next one
        entry          found, waited for, entered
        run            one carrying-out, and what it needs of AWS
        bus            what we ask of ourselves
        sweep          which instances of the fleet need a run

    drift/             a database held against its promises
        comparing      all of it, by the four below
        roles          what roles are, who has them, what their sessions start with
        privileges     what is granted, and will be
        things         who owns what; schemas, tables, triggers
        code           functions, and what runs as the master
        ledger         what is needed, allowed and found, set against each other
        repairs        the statements that repair it
        snapshot       the server asked for its catalogue, in one transaction
        catalogue      what it answered, as values

    access/            where a database is, and who may enter
        locate         from a request to an endpoint
        naming         which instance or cluster a name means
        credentials    what a master secret says
        login_passwords  what we keep for the logins that migrations make

    revisions/         the build's revisions
        runner         the build, and the way into the loop
        loop           carrying them out, for the function and the command
        supervisor     who has them carried out, as the loop knows it
        one_revision   one of them, from its transaction's opening to its record
        truth          whether it would be true to record it
        failure        what it failed at, and the way out
        interruption   its Python, when its session is cut
        alembic_door   Alembic, on the connection that is lent
        containment    the process as it was before them
        scripts        reading and loading them
        sql_files      the SQL files that they run
        folder         where a team keeps them, and what is beside them
        manifest       their list, made when packaged
        marks          which roles are of our making
        retiring       what a dropped role leaves, kept and given back
        promises       what they promise to leave behind
        made           the functions, triggers and tables that their SQL makes
        rendering      their SQL on paper
        dialect        how values are written there
        history        where a database stands, and how it got there
        runs           the runs that changed it, or tried to
        books          schema day2: made, verified, brought up to date

    postgres/          the server
        connecting     over verified TLS, with settings that nobody else has a say in
        diagnosis      why it refused a connection, found out step by step
        refusals       what its code means
        lock           one run at a time
        writer         whether it takes writes
        blockers       who is in the way
        beginning      where a revision begins: its settings, its transaction opened
        lending        a session lent to SQLAlchemy, whose engine opens others
        session        a session, and how our own code asks it
        watching       its cursors, which keep the account of its transactions
        transactions   what became of each transaction of a revision
        concurrent_builds  indexes built concurrently, and those left INVALID
        notices        what the server says beside its answers
        names          where names are looked for, and who is trusted there
        masking        secrets in SQL text, masked
        roles          whether there is one, and its password
        acting         a statement as another role, whose code cannot get out of it

    decisions/         from values alone
        plan           which revisions to apply
        target         which revision to reach, and who said so
        eligibility    whether an instance is ours to migrate now
        orphans        which secrets have outlived their database
        patience       how long what mends itself is waited for
        need           what an instance needs, without a connection
        observed       what is kept of a run for the next sweep
        keeper         who keeps a database
        refusals       what it means that AWS refuses a call

    settings           what the function was given in its environment
    budget             how long a run may still take
    errors             what can go wrong, by what to do next
    model              the values that cross a boundary
    outcome            the codes of the contract
"""
