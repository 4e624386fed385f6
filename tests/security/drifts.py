"""What somebody did by hand to a database at head, and what ``check`` is to tell of it."""

from __future__ import annotations

# The statement, and what is told: whose it is, what kind of drift, and in which words.
Drift = tuple[str, list[tuple[str, str, str]]]

EVENT = "audit.record_event(text,text,jsonb)"

# As the master, who repairs it.
BY_THE_MASTER: dict[str, Drift] = {
    "a select that was taken": (
        "REVOKE USAGE ON SCHEMA app_schema FROM analytics_role",
        [("analytics_role", "missing", "USAGE ON SCHEMA app_schema")],
    ),
    "a write that was given": (
        "GRANT INSERT ON audit.database_changes TO app_role",
        [("app_role", "beyond", "INSERT ON TABLE audit.database_changes")],
    ),
    "a column that was given": (
        "GRANT UPDATE (details) ON audit.compliance_events TO app_role",
        [("app_role", "beyond", "UPDATE (details) ON TABLE audit.compliance_events")],
    ),
    "a column that was given to a stranger": (
        "GRANT SELECT (details) ON audit.compliance_events TO stranger",
        [("stranger", "beyond", "SELECT (details) ON TABLE audit.compliance_events")],
    ),
    "a function that was taken": (
        "REVOKE ALL ON FUNCTION audit.record_change() FROM app_role",
        [("app_role", "missing", "EXECUTE ON FUNCTION audit.record_change()")],
    ),
    "a function that anybody may call": (
        "GRANT EXECUTE ON FUNCTION audit.record_event(text, text, jsonb) TO PUBLIC",
        [("PUBLIC", "beyond", f"EXECUTE ON FUNCTION {EVENT}")],
    ),
    "a function that a stranger may call": (
        "GRANT EXECUTE ON FUNCTION audit.record_event(text, text, jsonb) TO stranger",
        [("stranger", "beyond", f"EXECUTE ON FUNCTION {EVENT}")],
    ),
    "a function that trusts its caller's search_path": (
        "ALTER FUNCTION audit.record_change() RESET search_path",
        [
            (
                "PUBLIC",
                "beyond",
                (
                    "a search_path of the caller's in FUNCTION audit.record_change(), "
                    "which is SECURITY DEFINER"
                ),
            )
        ],
    ),
    "a function that looks elsewhere": (
        "ALTER FUNCTION audit.record_change() SET search_path = public, pg_catalog",
        [("audit_role", "changed", "FUNCTION audit.record_change() as its revision made it")],
    ),
    "a function that starts with another setting": (
        "ALTER FUNCTION audit.record_change() SET row_security = off",
        [("audit_role", "changed", "FUNCTION audit.record_change() as its revision made it")],
    ),
    "a function that is another one now": (
        (
            "CREATE OR REPLACE FUNCTION audit.record_change() RETURNS trigger LANGUAGE plpgsql"
            " SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
            " AS 'BEGIN RETURN NULL; END'"
        ),
        [("audit_role", "changed", "FUNCTION audit.record_change() as its revision made it")],
    ),
    "a function that runs as its caller": (
        "ALTER FUNCTION audit.record_change() SECURITY INVOKER",
        [("audit_role", "changed", "FUNCTION audit.record_change() as its revision made it")],
    ),
    "a function that does nothing for a NULL": (
        "ALTER FUNCTION audit.record_event(text, text, jsonb) STRICT",
        [("audit_role", "changed", f"FUNCTION {EVENT} as its revision made it")],
    ),
    "a function that is planned away": (
        "ALTER FUNCTION audit.record_event(text, text, jsonb) STABLE",
        [("audit_role", "changed", f"FUNCTION {EVENT} as its revision made it")],
    ),
    "a function of another owner": (
        "ALTER FUNCTION audit.record_change() OWNER TO CURRENT_USER",
        [("audit_role", "missing", "own FUNCTION audit.record_change()")],
    ),
    "a function that is gone": (
        "DROP FUNCTION audit.record_change()",
        [
            ("postgres", "missing", "FUNCTION audit.record_change as its revision made it"),
            ("audit_role", "missing", "own FUNCTION audit.record_change()"),
            ("app_role", "missing", "EXECUTE ON FUNCTION audit.record_change()"),
        ],
    ),
    "code of the master's": (
        (
            "CREATE FUNCTION public.left_over() RETURNS int LANGUAGE sql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS 'SELECT 1';"
            "REVOKE ALL ON FUNCTION public.left_over() FROM PUBLIC"
        ),
        [
            (
                "postgres",
                "beyond",
                "SECURITY DEFINER ON FUNCTION public.left_over(), which no revision made",
            )
        ],
    ),
    "a procedure of the master's": (
        (
            "CREATE PROCEDURE app_schema.left_over(a integer) LANGUAGE sql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS 'SELECT 1';"
            "REVOKE ALL ON PROCEDURE app_schema.left_over(integer) FROM PUBLIC"
        ),
        [
            (
                "postgres",
                "beyond",
                (
                    "SECURITY DEFINER ON PROCEDURE app_schema.left_over(integer), "
                    "which no revision made"
                ),
            )
        ],
    ),
    "public opened again": (
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        [("PUBLIC", "beyond", "USAGE ON SCHEMA public")],
    ),
    "a table of public opened to everybody": (
        (
            "CREATE TABLE public.open ();"
            "GRANT SELECT ON public.open TO backup_role, analytics_role;"
            "GRANT INSERT ON public.open TO PUBLIC"
        ),
        [("PUBLIC", "beyond", "INSERT ON TABLE public.open")],
    ),
    "our own schema opened": (
        "GRANT USAGE ON SCHEMA day2 TO backup_role",
        [("backup_role", "beyond", "USAGE ON SCHEMA day2")],
    ),
    "our own schema opened to a stranger": (
        "GRANT USAGE ON SCHEMA day2 TO stranger; GRANT INSERT ON day2.history TO stranger",
        [
            ("stranger", "beyond", "INSERT ON TABLE day2.history"),
            ("stranger", "beyond", "USAGE ON SCHEMA day2"),
        ],
    ),
    "the trail opened to a stranger": (
        (
            "GRANT USAGE ON SCHEMA audit TO stranger;"
            "GRANT DELETE ON audit.database_changes TO stranger"
        ),
        [
            ("stranger", "beyond", "DELETE ON TABLE audit.database_changes"),
            ("stranger", "beyond", "USAGE ON SCHEMA audit"),
        ],
    ),
    "a sequence opened to a stranger": (
        "GRANT UPDATE ON SEQUENCE audit.compliance_events_id_seq TO stranger",
        [("stranger", "beyond", "UPDATE ON SEQUENCE audit.compliance_events_id_seq")],
    ),
    "a promise with the right to hand it on": (
        "GRANT SELECT ON audit.database_changes TO backup_role WITH GRANT OPTION",
        [("backup_role", "beyond", "SELECT ON TABLE audit.database_changes WITH GRANT OPTION")],
    ),
    "a promised column with the right to hand it on": (
        "GRANT SELECT (id) ON audit.compliance_events TO audit_role WITH GRANT OPTION",
        [
            (
                "audit_role",
                "beyond",
                "SELECT (id) ON TABLE audit.compliance_events WITH GRANT OPTION",
            )
        ],
    ),
    "a promise that was handed on": (
        (
            "GRANT SELECT ON audit.database_changes TO backup_role WITH GRANT OPTION;"
            "SET ROLE backup_role; GRANT SELECT ON audit.database_changes TO stranger; RESET ROLE"
        ),
        [
            ("backup_role", "beyond", "SELECT ON TABLE audit.database_changes WITH GRANT OPTION"),
            ("stranger", "beyond", "SELECT ON TABLE audit.database_changes"),
        ],
    ),
    "a schema whose owner may not use it": (
        "REVOKE USAGE ON SCHEMA app_schema FROM app_role",
        [("app_role", "missing", "USAGE ON SCHEMA app_schema")],
    ),
    "a membership that was given": (
        "GRANT backup_role TO analytics_user",
        [("analytics_user", "beyond", "member of backup_role")],
    ),
    "a membership that was taken": (
        "REVOKE analytics_role FROM analytics_user",
        [("analytics_user", "missing", "member of analytics_role")],
    ),
    "a stranger as a member": (
        "GRANT audit_role TO stranger",
        [("stranger", "beyond", "member of audit_role")],
    ),
    "a stranger as a member of a login": (
        "GRANT app_user TO stranger",
        [("stranger", "beyond", "member of app_user")],
    ),
    "a stranger as an administrator": (
        "GRANT app_role TO stranger WITH ADMIN OPTION",
        [("stranger", "beyond", "member of app_role")],
    ),
    "a stranger by way of a group": (
        "GRANT grp TO stranger; GRANT app_role TO grp",
        [("grp", "beyond", "member of app_role")],
    ),
    "a promised role in a stranger's": (
        "GRANT stranger TO app_role",
        [("app_role", "beyond", "member of stranger")],
    ),
    "a promised membership with the right to hand it on": (
        "GRANT app_role TO app_user WITH ADMIN OPTION",
        [("app_user", "beyond", "member of app_role WITH ADMIN OPTION")],
    ),
    "a login that may make roles": (
        "ALTER ROLE app_user CREATEROLE",
        [("app_user", "beyond", "CREATEROLE")],
    ),
    "a login that cannot log in": (
        "ALTER ROLE backup_user NOLOGIN",
        [("backup_user", "missing", "LOGIN")],
    ),
    "a login whose time is over": (
        "ALTER ROLE app_user VALID UNTIL '2001-01-01 UTC'",
        [("app_user", "beyond", "VALID UNTIL 2001-01-01 00:00:00+00")],
    ),
    "a login that no connection is left for": (
        "ALTER ROLE app_user CONNECTION LIMIT 0",
        [("app_user", "beyond", "CONNECTION LIMIT 0")],
    ),
    "a login that may not connect": (
        "REVOKE CONNECT ON DATABASE shop FROM PUBLIC",
        [
            ("analytics_user", "missing", "CONNECT ON DATABASE shop"),
            ("app_user", "missing", "CONNECT ON DATABASE shop"),
            ("backup_user", "missing", "CONNECT ON DATABASE shop"),
        ],
    ),
    "a login that does not act as its role": (
        "ALTER ROLE app_user RESET role",
        [("app_user", "missing", "SET role = app_role")],
    ),
    "a login that acts as another role": (
        "ALTER ROLE app_user SET role = 'analytics_role'",
        [
            ("app_user", "beyond", "SET role = analytics_role"),
            ("app_user", "missing", "SET role = app_role"),
        ],
    ),
    "a login that acts as another role here": (
        "ALTER ROLE app_user IN DATABASE shop SET role = 'none'",
        [("app_user", "beyond", "SET role = none IN DATABASE shop")],
    ),
    "a login that looks elsewhere": (
        "ALTER ROLE analytics_user SET search_path = evil, public",
        [("analytics_user", "beyond", "SET search_path = evil, public")],
    ),
    "the master acting as a role": (
        "ALTER ROLE postgres SET role = 'app_role'",
        [("postgres", "beyond", "SET role = app_role")],
    ),
    "everybody in the database acting as a role": (
        "ALTER DATABASE shop SET role = 'app_role'",
        [("PUBLIC", "beyond", "SET role = app_role IN DATABASE shop")],
    ),
    "a database that writes names in another way": (
        "ALTER DATABASE shop SET quote_all_identifiers = on",
        [("PUBLIC", "beyond", "SET quote_all_identifiers = on IN DATABASE shop")],
    ),
    "a login that does not inherit": (
        "ALTER ROLE analytics_user NOINHERIT",
        [("analytics_user", "missing", "INHERIT")],
    ),
    "a schema of the master's that is a role's": (
        "ALTER SCHEMA audit OWNER TO app_role",
        # It goes back without what its owner had in it.
        [
            ("app_role", "beyond", "own SCHEMA audit"),
            ("app_role", "missing", "USAGE ON SCHEMA audit"),
        ],
    ),
    "a function of a stranger's": (
        (
            "CREATE FUNCTION app_schema.strange() RETURNS int LANGUAGE sql AS 'SELECT 1';"
            "GRANT CREATE ON SCHEMA app_schema TO stranger; GRANT stranger TO CURRENT_USER;"
            "ALTER FUNCTION app_schema.strange() OWNER TO stranger;"
            "REVOKE stranger FROM CURRENT_USER; REVOKE CREATE ON SCHEMA app_schema FROM stranger"
        ),
        [("stranger", "beyond", "own FUNCTION app_schema.strange()")],
    ),
    "a group that can log in": (
        "ALTER ROLE app_role LOGIN",
        [("app_role", "beyond", "LOGIN")],
    ),
    "a default that was taken": (
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_role IN SCHEMA analytics"
            " REVOKE SELECT ON TABLES FROM analytics_role"
        ),
        [
            (
                "analytics_role",
                "missing",
                "SELECT ON future TABLES IN SCHEMA analytics made by app_role",
            )
        ],
    ),
    "a default that was given": (
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_role IN SCHEMA app_schema"
            " GRANT DELETE ON TABLES TO analytics_role"
        ),
        [
            (
                "analytics_role",
                "beyond",
                "DELETE ON future TABLES IN SCHEMA app_schema made by app_role",
            )
        ],
    ),
    "a default that was given to a stranger": (
        (
            "ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT SELECT ON TABLES TO stranger;"
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_role GRANT INSERT ON TABLES TO stranger"
        ),
        [
            ("stranger", "beyond", "INSERT ON future TABLES made by app_role"),
            ("stranger", "beyond", "SELECT ON future TABLES IN SCHEMA audit made by postgres"),
        ],
    ),
    "a default of a stranger's": (
        (
            "GRANT stranger TO CURRENT_USER;"
            "ALTER DEFAULT PRIVILEGES FOR ROLE stranger GRANT SELECT ON TABLES TO analytics_role;"
            "REVOKE stranger FROM CURRENT_USER"
        ),
        [("analytics_role", "beyond", "SELECT ON future TABLES made by stranger")],
    ),
    "a default for everybody": (
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_role IN SCHEMA app_schema"
            " GRANT SELECT ON TABLES TO PUBLIC"
        ),
        [("PUBLIC", "beyond", "SELECT ON future TABLES IN SCHEMA app_schema made by app_role")],
    ),
    "a default with the right to hand it on": (
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_role IN SCHEMA analytics"
            " GRANT SELECT ON TABLES TO analytics_role WITH GRANT OPTION"
        ),
        [
            (
                "analytics_role",
                "beyond",
                "SELECT ON future TABLES IN SCHEMA analytics made by app_role WITH GRANT OPTION",
            )
        ],
    ),
    "a database that may be added to": (
        "GRANT CREATE ON DATABASE shop TO app_role",
        [("app_role", "beyond", "CREATE ON DATABASE shop")],
    ),
    "a database that anybody may add to": (
        "GRANT CREATE ON DATABASE shop TO PUBLIC",
        [("PUBLIC", "beyond", "CREATE ON DATABASE shop")],
    ),
    "a schema of another owner": (
        "ALTER SCHEMA analytics OWNER TO CURRENT_USER",
        [("app_role", "missing", "own SCHEMA analytics")],
    ),
    "a schema that is gone": (
        "DROP SCHEMA maintenance",
        [("backup_role", "missing", "SCHEMA maintenance")],
    ),
    "a schema that a stranger owns, and its table": (
        (
            "GRANT stranger TO CURRENT_USER; GRANT CREATE ON DATABASE shop TO stranger;"
            "ALTER SCHEMA audit OWNER TO stranger;"
            "ALTER TABLE audit.database_changes OWNER TO stranger;"
            "REVOKE CREATE ON DATABASE shop FROM stranger; REVOKE stranger FROM CURRENT_USER"
        ),
        [
            ("stranger", "beyond", "own SCHEMA audit"),
            ("stranger", "beyond", "own TABLE audit.database_changes"),
        ],
    ),
    "a table that a stranger put into a promised schema": (
        (
            "GRANT CREATE ON SCHEMA analytics TO stranger; GRANT stranger TO CURRENT_USER;"
            "SET ROLE stranger; CREATE TABLE analytics.strange (); RESET ROLE;"
            "REVOKE stranger FROM CURRENT_USER; REVOKE CREATE ON SCHEMA analytics FROM stranger"
        ),
        [
            ("stranger", "beyond", "own TABLE analytics.strange"),
            ("analytics_role", "missing", "SELECT ON TABLE analytics.strange"),
            ("backup_role", "missing", "SELECT ON TABLE analytics.strange"),
        ],
    ),
    "a table that readers do not see": (
        (
            "SET ROLE app_role; CREATE TABLE app_schema.new (); RESET ROLE;"
            "REVOKE ALL ON app_schema.new FROM analytics_role, backup_role"
        ),
        [
            ("analytics_role", "missing", "SELECT ON TABLE app_schema.new"),
            ("backup_role", "missing", "SELECT ON TABLE app_schema.new"),
        ],
    ),
    "a trail that a crash empties": (
        "ALTER TABLE audit.database_changes SET UNLOGGED",
        [("postgres", "beyond", "UNLOGGED ON TABLE audit.database_changes")],
    ),
    "a trail that hides rows": (
        "ALTER TABLE audit.database_changes ENABLE ROW LEVEL SECURITY",
        [("postgres", "beyond", "ROW LEVEL SECURITY ON TABLE audit.database_changes")],
    ),
    "a trail that hides rows from its owner": (
        (
            "ALTER TABLE audit.database_changes ENABLE ROW LEVEL SECURITY;"
            "ALTER TABLE audit.database_changes FORCE ROW LEVEL SECURITY;"
            "CREATE POLICY hide ON audit.database_changes USING (false)"
        ),
        [
            ("postgres", "beyond", "FORCE ROW LEVEL SECURITY ON TABLE audit.database_changes"),
            ("postgres", "beyond", "POLICY hide ON TABLE audit.database_changes"),
            ("postgres", "beyond", "ROW LEVEL SECURITY ON TABLE audit.database_changes"),
        ],
    ),
    "a trail that forgets": (
        "CREATE RULE forget AS ON INSERT TO audit.database_changes DO INSTEAD NOTHING",
        [("postgres", "beyond", "RULE forget ON TABLE audit.database_changes")],
    ),
    "a trail with a trigger of somebody's": (
        (
            "CREATE TRIGGER strange BEFORE INSERT ON audit.database_changes"
            " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ),
        [("postgres", "beyond", "TRIGGER strange ON TABLE audit.database_changes")],
    ),
    "a history that can be changed": (
        "DROP TRIGGER append_only ON day2.history",
        [("postgres", "missing", "TRIGGER append_only ON TABLE day2.history")],
    ),
    "a history whose trigger is off": (
        "ALTER TABLE day2.history DISABLE TRIGGER append_only",
        [("postgres", "missing", "enabled TRIGGER append_only ON TABLE day2.history")],
    ),
    "a history whose trigger is for replicas": (
        "ALTER TABLE day2.history ENABLE REPLICA TRIGGER append_only",
        [("postgres", "missing", "enabled TRIGGER append_only ON TABLE day2.history")],
    ),
    "a history whose trigger lets deletes through": (
        (
            "CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON day2.history"
            " FOR EACH STATEMENT EXECUTE FUNCTION day2.refuse_change()"
        ),
        [("postgres", "changed", "TRIGGER append_only ON TABLE day2.history")],
    ),
    "a history whose trigger does nothing": (
        (
            "CREATE OR REPLACE FUNCTION day2.refuse_change() RETURNS trigger LANGUAGE plpgsql"
            " SET search_path = pg_catalog AS 'BEGIN RETURN NEW; END'"
        ),
        [("postgres", "changed", "FUNCTION day2.refuse_change() as its revision made it")],
    ),
    "a history that forgets": (
        "CREATE RULE forget AS ON INSERT TO day2.history DO INSTEAD NOTHING",
        [("postgres", "beyond", "RULE forget ON TABLE day2.history")],
    ),
    "a promised type": (
        (
            "CREATE TYPE audit.kind AS ENUM ('a'); GRANT USAGE ON TYPE audit.kind TO stranger;"
            "REVOKE USAGE ON TYPE audit.kind FROM PUBLIC"
        ),
        [("stranger", "beyond", "USAGE ON TYPE audit.kind")],
    ),
    "a name that is more than a name": (
        (
            'SET ROLE app_role; CREATE TABLE app_schema."a""; DROP ROLE app_user; --" ();'
            "RESET ROLE;"
            'REVOKE ALL ON app_schema."a""; DROP ROLE app_user; --" FROM analytics_role'
        ),
        [
            (
                "analytics_role",
                "missing",
                'SELECT ON TABLE app_schema."a""; DROP ROLE app_user; --"',
            )
        ],
    ),
}

# What only a superuser can do, or before 16 whoever may make roles; repaired by the same.
BY_A_SUPERUSER: dict[str, Drift] = {
    "a stranger as a member of the master": (
        "GRANT postgres TO outsider",
        [("outsider", "beyond", "member of postgres")],
    ),
    "a stranger as a member, by a superuser": (
        "GRANT audit_role TO outsider",
        [("outsider", "beyond", "member of audit_role")],
    ),
    "all data for a login": (
        "GRANT pg_read_all_data TO analytics_user",
        [("analytics_user", "beyond", "member of pg_read_all_data")],
    ),
    "all data for a stranger": (
        "GRANT pg_write_all_data TO outsider",
        [("outsider", "beyond", "member of pg_write_all_data")],
    ),
    "the catalogue for a login": (
        "GRANT SELECT ON pg_catalog.pg_authid TO analytics_role",
        [("analytics_role", "beyond", "SELECT ON TABLE pg_catalog.pg_authid")],
    ),
    "everybody on the server acting as a role": (
        "ALTER ROLE ALL SET role = 'app_role'",
        [("PUBLIC", "beyond", "SET role = app_role")],
    ),
    "a parameter that switches triggers off": (
        "GRANT SET ON PARAMETER session_replication_role TO app_role",
        [("app_role", "beyond", "SET ON PARAMETER session_replication_role")],
    ),
    "a server program for a login": (
        "GRANT pg_execute_server_program TO app_user",
        [("app_user", "beyond", "member of pg_execute_server_program")],
    ),
    "a function of the catalogue for a login": (
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO app_role",
        [("app_role", "beyond", "EXECUTE ON FUNCTION pg_catalog.pg_read_file(text)")],
    ),
    "a database that a role owns": (
        "ALTER DATABASE shop OWNER TO app_role",
        [("app_role", "beyond", "own DATABASE shop")],
    ),
    "a login that passes by row security": (
        "ALTER ROLE backup_user BYPASSRLS",
        [("backup_user", "beyond", "BYPASSRLS")],
    ),
    "a table outside its schemas": (
        (
            "CREATE TABLE public.mine (); ALTER TABLE public.mine OWNER TO app_role;"
            "GRANT SELECT ON public.mine TO analytics_role, backup_role"
        ),
        [("app_role", "beyond", "own TABLE public.mine")],
    ),
}
