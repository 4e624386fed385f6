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
from core.drift.comparing import compare
from core.drift.ledger import Finding
from core.drift.snapshot import reading
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
from tests.security.drifts import BY_A_SUPERUSER, BY_THE_MASTER


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
