"""What ``check`` says of the roles: nothing at head, and each drift with what repairs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

from core.actions.check import check
from core.drift.catalogue import reading
from core.drift.comparing import compare
from core.drift.ledger import Finding
from core.errors import AccessDenied, MigrationError, NotReady, Rejected
from core.model import Action, Secret
from core.outcome import Outcome
from core.postgres.connecting import connect
from core.postgres.session import Session, query
from core.revisions.made import made_by
from core.revisions.promises import Promises
from infra.local.postgres.programs import Programs, available_programs
from infra.local.postgres.server import Server
from infra.trial.cloud import MemoryCloud
from tests.equipment.site import DATABASE, HEAD_LOGINS, REVISIONS, Site, make_empty


@pytest.fixture(scope="session", params=available_programs(), ids=lambda found: found.version)
def programs(request: pytest.FixtureRequest) -> Programs:
    """Return each installed PostgreSQL: memberships and owners are not the same in all."""
    return request.param


class Head(Site):
    """An instance at head that is entered once for all tests, but where entering is the matter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._kept: dict[str, Session] = {}

    def query(
        self, statement: str, values: Sequence[object] = (), *, user: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run *statement* as the master or as the superuser."""
        return query(self.kept(user or "superuser"), statement, values)

    def kept(self, who: str) -> Session:
        """Return the session of the ``superuser``, of the ``runner`` or of the master."""
        if who not in self._kept:
            opened = {
                "superuser": lambda: self.server.superuser(DATABASE),
                "runner": lambda: connect(
                    self.database(), relation_lock_timeout_ms=500, timeout_seconds=3600
                ),
                self.master: lambda: self.login(self.master),
            }
            self._kept[who] = opened[who]()
        return self._kept[who]

    def leave(self) -> None:
        """Close all of them."""
        for session in self._kept.values():
            session.close()
        self._kept.clear()


@pytest.fixture(scope="module")
def at_head(server: Server, ca_file: Path) -> Iterator[Head]:
    """Return an instance at head, for all tests that do not need it untouched."""
    make_empty(server)
    site = Head(server, ca_file)
    site.run()
    yield site
    site.leave()


def checked(site: Site) -> dict[str, Any]:
    """Return what ``check`` reports of *site*."""
    result = site.run(Action.CHECK, None)
    assert result.outcome is Outcome.CHECKED
    return result.report.details


EVENT = "audit.record_event(text,text,jsonb)"

# What somebody did by hand as the master, and what is told of it: whose it is, what kind of
# drift, and in which words.
BY_THE_MASTER: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
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
BY_A_SUPERUSER: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
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


def test_head_keeps_every_promise(at_head: Site) -> None:
    """Right after a migrate each role has what was promised, all of it and no more."""
    found = checked(at_head)

    assert found["drift"] == []
    assert [(one["role"], one["missing"], one["beyond"]) for one in found["roles"]] == [
        (role.name, [], []) for role in REVISIONS.promises.roles
    ]
    assert all(one["present"] and one["can"] for one in found["roles"])


LEFT_OVER = """
DROP TABLE IF EXISTS public.open, public.mine, analytics.strange, app_schema.new, audit.hidden;
DROP TABLE IF EXISTS app_schema."a""; DROP ROLE app_user; --";
DROP TYPE IF EXISTS audit.kind;
DROP FUNCTION IF EXISTS public.left_over(), app_schema.strange();
ALTER ROLE ALL RESET role;
DROP PROCEDURE IF EXISTS app_schema.left_over(integer);
DROP OWNED BY stranger, grp, outsider, outsiders;
DROP ROLE stranger, grp, outsider, outsiders;
"""


def looked(site: Site) -> list[Finding]:
    """Return what is found of *site* as the master sees it, without the trial of passwords."""
    with closing(site.connect_as_runner()) as session:
        return looked_by(session)


def looked_by(session: Session) -> list[Finding]:
    """Return what is found over a session that is there."""
    with reading(session):
        return compare(session, REVISIONS.promises, made_by(REVISIONS.history)).findings


def repair(site: Head, drift: list[Finding], *, as_superuser: bool = False) -> None:
    """Run what is printed, as it is printed."""
    master, user = (site.master, None) if as_superuser else ("CURRENT_USER", site.master)
    for one in drift:
        site.query(one.statement.replace("CURRENT_USER", master), user=user)


@pytest.fixture
def drifting(at_head: Head) -> Iterator[Head]:
    """Return an instance at head beside three strangers, which is as it was afterwards."""
    at_head.query("CREATE ROLE stranger LOGIN; CREATE ROLE grp", user=at_head.master)
    at_head.query("CREATE ROLE outsider LOGIN; CREATE ROLE outsiders")
    yield at_head
    at_head.query(f"ALTER ROLE {at_head.master} RESET ALL; {LEFT_OVER}")
    if looked_by(at_head.kept("runner")):
        # The test has failed: the next one finds another database.
        at_head.leave()
        make_empty(at_head.server)
        at_head.run()


def told(drift: list[Finding]) -> list[tuple[str, str, str]]:
    """Return what *drift* is about."""
    return [(one.role, one.drift, one.privilege) for one in drift]


LOST = {
    "a table of the trail that is gone": "DROP TABLE audit.database_changes",
    "a view in place of the trail": (
        "ALTER TABLE audit.database_changes RENAME TO hidden;"
        "CREATE VIEW audit.database_changes AS SELECT * FROM audit.hidden"
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_a_lost_table_is_told_first(drifting: Head, name: str) -> None:
    """It is made again, empty, with all that was promised on it."""
    drifting.query(LOST[name], user=drifting.master)

    drift = looked(drifting)
    repair(drifting, drift)

    assert told(drift)[0] == ("postgres", "missing", "TABLE audit.database_changes")
    assert ("audit_role", "missing", "INSERT (operation) ON TABLE audit.database_changes") in told(
        drift
    )
    assert looked_by(drifting.kept("runner")) == []


@pytest.mark.parametrize("name", BY_THE_MASTER)
def test_drift_is_told_with_the_statement_that_repairs_it(drifting: Head, name: str) -> None:
    """Each thing done by hand is told, and the master repairs it by running what is printed."""
    statement, expected = BY_THE_MASTER[name]
    drifting.query(statement, user=drifting.master)

    drift = looked(drifting)
    repair(drifting, drift)

    assert told(drift) == expected
    assert looked_by(drifting.kept("runner")) == []


def test_an_option_of_a_membership_that_was_taken_is_told(drifting: Head) -> None:
    """Since 16 each membership has its own; before, inheriting is the member's."""
    has_options = drifting.query("SELECT current_setting('server_version_num')::int >= 160000")
    statement, what = (
        (
            "GRANT backup_role TO backup_user WITH INHERIT FALSE",
            "member of backup_role WITH INHERIT",
        )
        if has_options[0][0]
        else ("ALTER ROLE backup_user NOINHERIT", "INHERIT")
    )
    drifting.query(statement, user=drifting.master)

    drift = looked(drifting)
    repair(drifting, drift)

    assert told(drift) == [("backup_user", "missing", what)]
    assert looked_by(drifting.kept("runner")) == []


# PostgreSQL 15's release notes: before, nobody can give it.
GRANTS_PARAMETERS_SINCE = 15


@pytest.mark.parametrize("name", BY_A_SUPERUSER)
def test_drift_of_a_superuser_is_told_and_repaired(drifting: Head, name: str) -> None:
    """What the master could not have done is told as well."""
    statement, expected = BY_A_SUPERUSER[name]
    if "ON PARAMETER" in statement and drifting.server.programs.major < GRANTS_PARAMETERS_SINCE:
        with pytest.raises(psycopg2.errors.SyntaxError):
            drifting.query(statement)
        statement, expected = "SELECT", []
    drifting.query(statement)

    drift = looked(drifting)
    repair(drifting, drift, as_superuser=True)

    assert told(drift) == expected
    assert looked_by(drifting.kept("runner")) == []


def test_the_answer_tells_drift_by_role_and_in_the_order_of_repairs(drifting: Head) -> None:
    """A caller reads it as JSON."""
    drifting.query(
        "ALTER ROLE app_user SET role = 'analytics_role'; GRANT audit_role TO stranger",
        user=drifting.master,
    )

    details = checked(drifting)
    repair(drifting, looked(drifting))

    assert details["drift"] == [
        {
            "role": "stranger",
            "drift": "beyond",
            "privilege": "member of audit_role",
            "statement": "REVOKE audit_role FROM stranger",
        },
        {
            "role": "app_user",
            "drift": "beyond",
            "privilege": "SET role = analytics_role",
            "statement": "ALTER ROLE app_user RESET role",
        },
        {
            "role": "app_user",
            "drift": "missing",
            "privilege": "SET role = app_role",
            "statement": "ALTER ROLE app_user SET role = 'app_role'",
        },
    ]
    assert [
        (one["role"], one["missing"], one["beyond"])
        for one in details["roles"]
        if one["missing"] or one["beyond"]
    ] == [("app_user", ["SET role = app_role"], ["SET role = analytics_role"])]


REFUSED = "RDS then refuses the master's password"
BY_TOKEN = {
    "directly": ("GRANT rds_iam TO postgres", ("postgres", f"member of rds_iam: {REFUSED}")),
    "by a login": (
        "GRANT rds_iam TO outsider; GRANT outsider TO postgres",
        ("postgres", f"member of outsider, which has rds_iam: {REFUSED}"),
    ),
    "by a group": (
        "GRANT rds_iam TO outsider; GRANT outsider TO outsiders; GRANT outsiders TO postgres",
        ("postgres", f"member of outsiders, which has rds_iam: {REFUSED}"),
    ),
    "by a promised login": (
        "GRANT rds_iam TO backup_user",
        ("backup_user", "member of rds_iam"),
    ),
}


@pytest.mark.parametrize("name", BY_TOKEN)
def test_a_master_that_needs_a_token_is_told(drifting: Head, name: str) -> None:
    """RDS refuses its password from then on: only who is in already can see it, and undo it."""
    statement, expected = BY_TOKEN[name]
    made, promises = made_by(REVISIONS.history), REVISIONS.promises
    with closing(drifting.connect_as_runner()) as session:
        drifting.query(statement)
        try:
            with reading(session):
                found = compare(session, promises, made).findings
            for one in found:
                drifting.query(one.statement.replace("CURRENT_USER", drifting.master))
            with reading(session):
                after = compare(session, promises, made).findings
        finally:
            drifting.query("REVOKE rds_iam FROM outsider, postgres, backup_user")

    assert [(one.role, one.privilege) for one in found] == [expected]
    assert after == []


PASSWORDS = {
    "none": "ALTER ROLE app_user PASSWORD NULL",
    "another one": "ALTER ROLE app_user PASSWORD 'another'",
}


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_login_without_its_password_is_told(at_head: Site, name: str) -> None:
    """The catalogue hides passwords from the master: that a login enters is tried."""
    at_head.query(PASSWORDS[name])

    drift = checked(at_head)["drift"]
    at_head.cloud.tag_secret("day2/orders/app_user", {"day2:unset": "true"})
    at_head.run()

    assert [tuple(one.values()) for one in drift] == [
        (
            "app_user",
            "missing",
            "the password of its secret",
            (
                "-- tag the secret day2/orders/app_user day2:unset=true, and run migrate: "
                "it sets the password"
            ),
        )
    ]
    assert checked(at_head)["drift"] == []


def test_a_login_without_its_secret_is_told(at_head: Site) -> None:
    """Nobody can log in by a password that nobody knows; the next run makes one."""
    del at_head.cloud.secrets["day2/orders/app_user"]

    drift = checked(at_head)["drift"]
    at_head.run()

    assert [(one["role"], one["privilege"]) for one in drift] == [
        ("app_user", "the password of its secret")
    ]
    assert checked(at_head)["drift"] == []


@dataclass
class Refusing(MemoryCloud):
    """An AWS that refuses one secret."""

    refused: str = ""
    error: MigrationError = field(default_factory=lambda: NotReady("busy"))

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret:
        """Return the secret *name*, unless it is that one."""
        if name == self.refused:
            raise self.error
        return super().secret(name, stage=stage)


@pytest.mark.parametrize(
    ("error", "drift", "told"),
    [
        (Rejected("restore it"), ["-- restore it"], "1 deviation(s) from what its revisions"),
        (NotReady("busy"), [], "and no more; 1 login(s) could not be tried: see warnings"),
        (AccessDenied("no"), [], "and no more; 1 login(s) could not be tried: see warnings"),
    ],
)
def test_a_login_whose_secret_is_refused_is_not_taken_for_proven(
    error: MigrationError, drift: list[str], told: str, at_head: Site
) -> None:
    """One that is scheduled for deletion is told as missing; of another it cannot be said."""
    cloud = Refusing(**vars(at_head.cloud), refused="day2/orders/app_user", error=error)

    result = replace(at_head, cloud=cloud).run(Action.CHECK, None)

    assert [one["statement"] for one in result.report.details["drift"]] == drift
    assert told in result.message
    proven = [] if drift else [f"could not prove that app_user enters: {error}"]
    assert result.report.warnings == proven


def test_what_a_person_allowed_is_not_told(drifting: Head, tmp_path: Path) -> None:
    """Whoever was given something on purpose is named in the file, in the words of the report."""
    drifting.query(
        "GRANT audit_role TO stranger; GRANT SELECT ON audit.database_changes TO stranger;"
        "GRANT app_role TO grp",
        user=drifting.master,
    )
    file = tmp_path / "promises.toml"
    file.write_text(
        '[[allow]]\nrole = "str*"\nprivileges = ["member of audit_role", "SELECT ON TABLE audit.*"]'
        '\nwhy = "on call"\n'
    )
    promises = REVISIONS.promises._replace(allowances=Promises.load(file).allowances)
    with closing(drifting.connect_as_runner()) as session, reading(session):
        found = compare(session, promises, made_by(REVISIONS.history)).findings
    drifting.query(
        "REVOKE audit_role FROM stranger; REVOKE app_role FROM grp", user=drifting.master
    )

    assert [(one.role, one.privilege) for one in found] == [("grp", "member of app_role")]


def test_a_long_answer_is_cut(drifting: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is counted, and said."""
    monkeypatch.setattr("core.actions.check.MOST_FINDINGS", 2)
    drifting.query("GRANT ALL ON audit.database_changes TO stranger", user=drifting.master)

    result = drifting.run(Action.CHECK, None)
    drifting.query("REVOKE ALL ON audit.database_changes FROM stranger", user=drifting.master)

    assert len(result.report.details["drift"]) == 2
    assert result.report.details["drift_left_out"] >= 5
    assert result.message.endswith("see drift, which shows the first 2")


# What whoever may create in a schema of the path could put there, to be found before ours.
EVIL = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.done() RETURNS text LANGUAGE plpgsql
    AS 'BEGIN RAISE EXCEPTION ''a stranger was called as %'', current_user; END';
CREATE FUNCTION evil.quote_ident(name) RETURNS text LANGUAGE sql AS 'SELECT evil.done()';
CREATE FUNCTION evil.starts_with(name, text) RETURNS boolean LANGUAGE sql
    AS 'SELECT evil.done() IS NULL';
CREATE FUNCTION evil.replace(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT evil.done()';
CREATE FUNCTION evil.same(name, name) RETURNS boolean LANGUAGE sql
    AS 'SELECT evil.done() IS NULL';
CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = name, RIGHTARG = name);
CREATE FUNCTION evil.same(oid, oid) RETURNS boolean LANGUAGE sql
    AS 'SELECT evil.done() IS NULL';
CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = oid, RIGHTARG = oid);
CREATE FUNCTION evil.joined(text, text) RETURNS text LANGUAGE sql AS 'SELECT evil.done()';
CREATE OPERATOR evil.|| (FUNCTION = evil.joined, LEFTARG = text, RIGHTARG = text);
CREATE VIEW evil.pg_roles AS SELECT evil.done() AS rolname;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
"""
FALSE_SETTINGS = (
    "SET search_path = evil, pg_catalog",
    "SET quote_all_identifiers = on",
    "SET standard_conforming_strings = off",
    # As ALTER DATABASE could set it, by its name on this server.
    (
        "SELECT pg_catalog.set_config(name, 'regress', false) FROM pg_catalog.pg_settings"
        " WHERE name IN ('force_parallel_mode', 'debug_parallel_query')"
    ),
)


def test_nobody_falsifies_what_is_read(drifting: Head) -> None:
    """No function, operator, view or setting of a stranger's has a say, and the rest is told."""
    drifting.query(EVIL)
    drifting.query("GRANT audit_role TO stranger", user=drifting.master)
    with closing(drifting.connect_as_runner()) as session:
        for statement in FALSE_SETTINGS:
            query(session, statement)
        with pytest.raises(errors.RaiseException):
            query(session, "SELECT count(*) FROM pg_catalog.pg_class WHERE relname = relname")
        with reading(session):
            found = compare(session, REVISIONS.promises, made_by(REVISIONS.history)).findings
        repair(drifting, found)
        with reading(session):
            after = compare(session, REVISIONS.promises, made_by(REVISIONS.history)).findings
    drifting.query("DROP SCHEMA evil CASCADE")

    assert [one.statement for one in found] == ["REVOKE audit_role FROM stranger"]
    assert after == []


def test_nothing_makes_the_transaction_a_writing_one(at_head: Site) -> None:
    """Neither a statement, nor a function that sets it back from inside."""
    with closing(at_head.connect_as_runner()) as session:
        for statement in (
            "SET TRANSACTION READ WRITE",
            "SELECT set_config('transaction_read_only', 'off', false)",
            "CREATE TABLE public.written ()",
        ):
            with pytest.raises(psycopg2.Error) as caught, reading(session):
                query(session, statement)
            assert caught.value.pgcode in ("25001", "25006", "22023")


def test_check_writes_nothing_and_reads_the_catalogue_only(at_head: Site) -> None:
    """No transaction number is used, no lock is taken, and no table of anybody is read."""
    before = at_head.next_transaction()
    with at_head.lock_held():
        at_head.run(Action.CHECK, None, request_id="check-alone")

    assert at_head.next_transaction() == before
    begin = at_head.server.log.rindex("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    after = at_head.server.log[begin:]
    assert "INSERT" not in after.replace("'INSERT'", "")
    assert not [
        name for name in ("FROM audit.", "FROM app_schema.", "FROM public.") if name in after
    ]


def test_every_role_and_grant_is_promised_of_what_there_is() -> None:
    """Each promise names a revision of this build and a role that is promised."""
    promises = REVISIONS.promises
    roles = {role.name for role in promises.roles}

    assert {
        one.since
        for kind in (
            promises.roles,
            promises.schemas,
            promises.tables,
            promises.closed,
            promises.grants,
        )
        for one in kind
    } <= set(REVISIONS.identifiers)
    assert {grant.to for grant in promises.grants} <= roles
    assert {login.name for login in promises.password_logins} == set(HEAD_LOGINS)
    assert check.__doc__


# From here on the database is emptied each time.


# What an application brings that lives beside us, in its own schemas and in public.
AN_APPLICATION = """
CREATE ROLE shopkeeper LOGIN; CREATE ROLE reader LOGIN;
GRANT CREATE ON DATABASE shop TO shopkeeper; GRANT ALL ON SCHEMA public TO shopkeeper;
ALTER ROLE shopkeeper SET search_path = shop, public;
ALTER ROLE shopkeeper VALID UNTIL '2040-01-01';
ALTER DATABASE shop SET timezone = 'UTC'; ALTER DATABASE shop SET work_mem = '8MB';
ALTER DATABASE shop SET app.tenant = 'x';
SET ROLE shopkeeper;
CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO reader, PUBLIC;
CREATE TABLE shop.orders (id serial PRIMARY KEY, note text); GRANT ALL ON shop.orders TO PUBLIC;
CREATE TABLE public.things (id int); GRANT SELECT ON public.things TO reader;
CREATE VIEW public.seen AS SELECT * FROM public.things;
CREATE FUNCTION public.theirs() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION shop.touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touched();
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY; CREATE POLICY theirs ON shop.orders USING (true);
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO reader;
RESET ROLE; SET ROLE app_role;
CREATE TABLE app_schema.orders (id serial, note text);
CREATE FUNCTION app_schema.ours() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE app_schema.mood AS ENUM ('good');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON app_schema.orders
    FOR EACH ROW EXECUTE FUNCTION audit.record_change();
RESET ROLE;
"""


def test_an_application_beside_is_no_drift(site: Site) -> None:
    """Nor is an extension, a restart at an earlier revision, or the same once more."""
    site.run()
    site.query(AN_APPLICATION)
    site.query("CREATE EXTENSION pg_stat_statements SCHEMA public; CREATE EXTENSION citext")

    found = [checked(site)["drift"]]
    site.downgrade("004", "003")
    found.append(checked(site)["drift"])
    site.run()
    found.append(checked(site)["drift"])

    assert found == [[], [], []]


@pytest.mark.parametrize("target", ["001", "002", "003"])
def test_each_revision_keeps_the_promises_of_its_time(site: Site, target: str) -> None:
    """Promises are those of the revision that the database is at."""
    site.run(target=target)

    assert checked(site)["drift"] == []


def test_a_lost_role_is_missed(site: Site) -> None:
    """A role that somebody dropped is missing, with all that it should have."""
    site.run()
    site.query("DROP OWNED BY backup_user; DROP ROLE backup_user")

    assert [
        (one["drift"], one["privilege"], one["statement"]) for one in checked(site)["drift"]
    ] == [
        ("missing", "(exist)", 'CREATE ROLE "backup_user"'),
        ("missing", "(the master acts as it)", 'GRANT "backup_user" TO CURRENT_USER'),
        ("missing", "LOGIN", 'ALTER ROLE "backup_user" LOGIN'),
        ("missing", "member of backup_role", 'GRANT backup_role TO "backup_user"'),
    ]


def test_base_promises_nothing(site: Site) -> None:
    """A database that was never migrated cannot drift."""
    assert checked(site) == {"roles": [], "drift": []}
