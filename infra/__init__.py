"""
How day2 gets onto AWS and is operated there, and the same on this machine.

Those of the first group are operators' commands: ``python -m infra.invoke --help``.
``tests/house/test_architecture.py`` holds the map::

    invoke             asks the function, and tells the story of its log
    redrive            sends failed events again
    orphans            lists and deletes what is left of databases that are gone
    account            names the account, region and stack, and asks before a change
    commands           what all commands share: their help, and why one stops
    interrupts         what is said of Ctrl-C, whatever a command is at
    story              a run's log, as a person reads it

    package            the zips for Lambda: function, libraries, migrations
    byte_code          what of the libraries is compiled in advance
    rds_ca             the root certificates of RDS that go into the package
    template           template.yaml as CloudFormation reads it
    environments       the virtual environments, from hashed locks

    migrations         which folder of migrations a command was given
    imports            what their scripts import, and the function has
    new_migrations     such a folder, for a repository of a team's own
    lint/              their SQL, read for what is dangerous on a live database
        revisions      each of them, up and down, less what it allows
        allowances     what a comment in it allows
        reading        statement by statement, also inside DO blocks
        statements     one of them, held against every rule
        rules          every rule, and what is found by one
        memberships    who is a member of whom by then
        table_locks    what keeps everybody else from a table for long
        text           statements as a report shows them
    trial/             they are tried on real servers
        files          what the files say, before any server is asked
        proofs         what must hold of each revision, and of all of them, on one server
        promising      what nothing promises, as promises.toml would have it
        servers        the servers, each in a process of its own
        golden         what they leave in the catalogue, on file for review
        catalogue      roles, objects and privileges of a server, as lines of text
        database       one database on a real server, which runs are carried out on
        cloud          AWS's answers about it, kept in memory

    local/             the AWS on this machine
        demo           make run
        workflow       make db-up, test-lambda, new-migration: a database to try revisions on
        stack          this checkout packaged, and template.yaml deployed
        parameters     the template's parameters, as make up is given them
        clusters       DB clusters, as a client of RDS asks for them
        local_aws      LocalStack as a whole: started, found again, stopped; clients for it
        shell          what of the shell leads to another AWS, left behind
        processes      what outlives a command, stopped by pid files and by nothing broader
        state          the one folder that all of it lives in
        localstack/    inside LocalStack's own process
            launch           its main program, in host mode
            gate             nobody gets in without a signature
            lambda_executor  each execution environment, a local process
            s3               objects kept in our state folder
            updates          what a changed template changes
            handing_over     events while one build of a function is exchanged for the next
            conditions       a template's conditions, kept apart
            endpoints        the names of interface endpoints
            calls            which calls functions make, for the tests
            rds/             the RDS API
                provider          which of the modules below answers
                rules             what RDS refuses, in its words
                catalog           which versions and classes there are
                instances         a server behind each instance
                clusters          a server behind each member of a cluster
                cluster_endpoint  where clients of a cluster connect
                deployments       blue/green deployments
                rds_events        what is told on the bus
        postgres/      servers that look like RDS instances
            server           made, started, stopped, removed
            likeness         roles, grants and entry rules that RDS has before a master comes
            extensions       those that RDS's master may make
            certificates     a CA of our own, and wrong certificates for tests
            tls_front        TLS for a server that was built without it
            programs         found on this machine, or fetched with pip
            by_npm           further majors
            engine_versions  which there are, and which a request means
"""

from infra import interrupts

interrupts.told_briefly()
