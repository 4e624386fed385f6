"""What each login may do at head, and what it may not: tried by logging in."""

from __future__ import annotations

import subprocess
from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors

from core.errors import RevisionFailed
from core.postgres.session import query
from infra.local.postgres.programs import pip_programs
from tests.equipment.site import DATABASE, HEAD_LOGINS, INSTANCE, Site

FORBIDDEN = errors.InsufficientPrivilege


@pytest.fixture(scope="module")
def filled(at_head: Site) -> Site:
    """Return a database at head in which the application and the master have made tables."""
    for schema in ("app_schema", "analytics"):
        at_head.query(
            f"CREATE TABLE {schema}.goods (id bigint GENERATED ALWAYS AS IDENTITY, name text);"
            f"INSERT INTO {schema}.goods (name) VALUES ('tea')",
            user="app_user",
        )
    at_head.query(
        "CREATE TABLE public.goods (id bigint GENERATED ALWAYS AS IDENTITY, name text);"
        "INSERT INTO public.goods (name) VALUES ('tea')",
        user="postgres",
    )
    return at_head


@pytest.mark.parametrize("user", HEAD_LOGINS)
def test_login_enters_with_the_password_in_its_secret(at_head: Site, user: str) -> None:
    """Each login enters over verified TLS with what its secret says."""
    secret = at_head.cloud.secrets[f"day2/{INSTANCE}/{user}"]

    with closing(at_head.login(user)) as session:
        whoami = query(session, "SELECT session_user")

    assert whoami == [(user,)]
    assert {name: value for name, value in secret.items() if name != "password"} == {
        "engine": "postgres",
        "username": user,
        "host": "localhost",
        "port": at_head.server.port,
        "dbname": DATABASE,
        "dbInstanceIdentifier": INSTANCE,
    }


def test_committed_logins_are_not_tagged_as_unset(at_head: Site) -> None:
    """A run that is over leaves no secret marked as not yet set, and says where it was set."""
    tags = {name: found for name, found in at_head.cloud.tags.items() if name.startswith("day2/")}

    assert tags == {
        f"day2/{INSTANCE}/{user}": {"day2:dbi-resource-id": "db-ORDERS"} for user in HEAD_LOGINS
    }


@pytest.mark.parametrize("user", ["analytics_user", "backup_user"])
@pytest.mark.parametrize("schema", ["public", "app_schema", "analytics"])
def test_reader_reads_tables_made_after_the_migration(filled: Site, user: str, schema: str) -> None:
    """A reader reads what the application and the master made afterwards, sequences too."""
    rows = filled.query(f"SELECT id, name FROM {schema}.goods", user=user)
    sequence = filled.query(f"SELECT last_value FROM {schema}.goods_id_seq", user=user)

    assert (rows, sequence) == ([(1, "tea")], [(1,)])


@pytest.mark.parametrize("user", ["analytics_user", "backup_user"])
@pytest.mark.parametrize("schema", ["public", "app_schema", "analytics"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {schema}.goods (name) VALUES ('coffee')",
        "UPDATE {schema}.goods SET name = 'coffee'",
        "DELETE FROM {schema}.goods",
        "TRUNCATE {schema}.goods",
        "DROP TABLE {schema}.goods",
        "ALTER TABLE {schema}.goods ADD COLUMN price int",
        "SELECT nextval('{schema}.goods_id_seq')",
        "CREATE TABLE {schema}.mine ()",
    ],
)
def test_reader_writes_nowhere(filled: Site, user: str, schema: str, statement: str) -> None:
    """A reader changes no row, no table and no sequence, and makes none."""
    with pytest.raises(FORBIDDEN):
        filled.query(statement.format(schema=schema), user=user)


def test_what_the_application_makes_belongs_to_its_role(filled: Site) -> None:
    """A table that app_user creates is owned by app_role, as each session acts as the role."""
    acting = filled.query("SELECT session_user, current_user", user="app_user")
    owners = filled.query(
        "SELECT schemaname, tableowner FROM pg_tables WHERE tablename = 'goods' ORDER BY 1"
    )

    assert acting == [("app_user", "app_role")]
    assert owners == [
        ("analytics", "app_role"),
        ("app_schema", "app_role"),
        ("public", "postgres"),
    ]


@pytest.mark.parametrize("schema", ["public", "maintenance", "audit", "day2"])
def test_application_makes_nothing_outside_its_schemas(filled: Site, schema: str) -> None:
    """app_user creates in app_schema and analytics, and in no other schema."""
    with pytest.raises(FORBIDDEN):
        filled.query(f"CREATE TABLE {schema}.mine ()", user="app_user")


@pytest.mark.parametrize("user", HEAD_LOGINS)
@pytest.mark.parametrize("table", ["day2.history", "day2.alembic_version"])
def test_nobody_reads_our_own_schema(at_head: Site, user: str, table: str) -> None:
    """No login that a revision makes can read schema day2."""
    with pytest.raises(FORBIDDEN):
        at_head.query(f"SELECT FROM {table}", user=user)


@pytest.mark.parametrize("user", HEAD_LOGINS)
def test_no_login_can_act_as_another_role(at_head: Site, user: str) -> None:
    """A login acts as the roles that it was given, and never as the master."""
    others = {"postgres", "app_role", "analytics_role", "backup_role"} - {
        user.replace("_user", "_role")
    }

    with closing(at_head.login(user)) as session:
        for other in sorted(others):
            with pytest.raises(FORBIDDEN):
                query(session, f"SET ROLE {other}")


def test_public_has_nothing_in_any_schema(at_head: Site) -> None:
    """A role that was granted nothing can use no schema of the database but the catalogue."""
    at_head.query("CREATE ROLE stranger")
    try:
        usable = at_head.query(
            "SELECT nspname FROM pg_namespace WHERE has_schema_privilege('stranger', oid, 'USAGE')"
            " OR has_schema_privilege('stranger', oid, 'CREATE') ORDER BY 1"
        )
    finally:
        at_head.query("DROP ROLE stranger")

    assert usable == [("information_schema",), ("pg_catalog",)]


def test_backup_user_owns_its_maintenance_schema(filled: Site) -> None:
    """backup_role's members make tables in maintenance, acting as the role."""
    filled.query(
        "SET ROLE backup_role; CREATE TABLE maintenance.runs (at timestamptz); RESET ROLE;"
        "INSERT INTO maintenance.runs VALUES (now()); DROP TABLE maintenance.runs",
        user="backup_user",
    )


def test_backup_user_can_dump_the_database(filled: Site) -> None:
    """``pg_dump --exclude-schema=day2`` works for backup_user, and holds the trail too."""
    server = filled.server
    program = server.programs.client("pg_dump")
    address = {"PGHOST": "localhost", "PGSSLMODE": "verify-full"}
    if program.parent == pip_programs().folder:
        # Programs without TLS go to the socket.
        address = {"PGHOST": str(server.folder)}

    dumped = subprocess.run(
        [program, "--exclude-schema=day2"],
        env=address
        | {
            "PGPORT": str(server.port),
            "PGUSER": "backup_user",
            "PGPASSWORD": str(filled.cloud.secrets[f"day2/{INSTANCE}/backup_user"]["password"]),
            "PGDATABASE": DATABASE,
            "PGSSLROOTCERT": str(filled.ca_file),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    copied = [line.split()[1] for line in dumped.stdout.splitlines() if line[:5] == "COPY "]
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert copied == [
        "analytics.goods",
        "app_schema.goods",
        "audit.compliance_events",
        "audit.database_changes",
        "public.goods",
    ]


def test_application_has_its_changes_recorded(filled: Site) -> None:
    """The audit trigger keeps old and new values, and names the login, not its role."""
    filled.query(
        "CREATE TABLE app_schema.orders (id int, total int);"
        "CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON app_schema.orders"
        " FOR EACH ROW EXECUTE FUNCTION audit.record_change();"
        "INSERT INTO app_schema.orders VALUES (1, 5);"
        "UPDATE app_schema.orders SET total = 6; DELETE FROM app_schema.orders;"
        "DROP TABLE app_schema.orders",
        user="app_user",
    )

    trail = filled.query(
        "SELECT table_name, operation, old_values, new_values, changed_by"
        " FROM audit.database_changes ORDER BY id",
        user="backup_user",
    )

    five, six = {"id": 1, "total": 5}, {"id": 1, "total": 6}
    assert trail == [
        ("app_schema.orders", "INSERT", None, five, "app_user"),
        ("app_schema.orders", "UPDATE", five, six, "app_user"),
        ("app_schema.orders", "DELETE", six, None, "app_user"),
    ]


def test_application_records_an_event(filled: Site) -> None:
    """audit.record_event answers with the entry's number, and the entry names the login."""
    ((number,),) = filled.query(
        """SELECT audit.record_event('export', 'May', '{"rows": 12}')""", user="app_user"
    )

    entry = filled.query(
        "SELECT event_type, description, details, recorded_by"
        " FROM audit.compliance_events WHERE id = %s",
        (number,),
    )

    assert entry == [("export", "May", {"rows": 12}, "app_user")]


@pytest.mark.parametrize("user", HEAD_LOGINS)
@pytest.mark.parametrize("table", ["audit.database_changes", "audit.compliance_events"])
@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO {} DEFAULT VALUES", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"],
)
def test_nobody_changes_the_trail(at_head: Site, user: str, table: str, statement: str) -> None:
    """No login writes, empties or drops the audit tables directly."""
    with pytest.raises(FORBIDDEN):
        at_head.query(statement.format(table), user=user)


@pytest.mark.parametrize("user", ["analytics_user", "backup_user"])
def test_only_the_application_records(at_head: Site, user: str) -> None:
    """record_event is for app_role's members alone."""
    with pytest.raises(FORBIDDEN):
        at_head.query("SELECT audit.record_event('export', 'May')", user=user)


def test_analytics_user_does_not_read_the_trail(at_head: Site) -> None:
    """The trail is read by the master and by backups only."""
    for table in ("database_changes", "compliance_events"):
        with pytest.raises(FORBIDDEN):
            at_head.query(f"SELECT FROM audit.{table}", user="analytics_user")


def test_no_password_reaches_the_server(at_head: Site) -> None:
    """With every statement logged, the log has SCRAM verifiers and not one password."""
    log = at_head.server.log

    assert "SCRAM-SHA-256$" in log
    assert [password for password in at_head.passwords() if password in log] == []


def test_wrong_password_is_refused(at_head: Site) -> None:
    """A login enters with its own password only."""
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(
            host="localhost",
            port=at_head.server.port,
            dbname=DATABASE,
            user="app_user",
            password="guessed",
            sslmode="verify-full",
            sslrootcert=str(at_head.ca_file),
        )


def test_verifier_that_would_take_hours_is_not_begun(site: Site) -> None:
    """Whoever owns the database may ask for it, where the server knows the setting."""
    if not site.query("SELECT name FROM pg_settings WHERE name = 'scram_iterations'"):
        with pytest.raises(errors.UndefinedObject):
            site.query(f"ALTER DATABASE {DATABASE} SET scram_iterations = 2147483647")
        return
    site.query(f"ALTER DATABASE {DATABASE} SET scram_iterations = 2147483647")

    with pytest.raises(RevisionFailed, match=r"scram_iterations is 2147483647.* RESET"):
        site.run()

    site.query(f"ALTER DATABASE {DATABASE} SET scram_iterations = 10000")
    assert site.run().report.final_revision == "004"
