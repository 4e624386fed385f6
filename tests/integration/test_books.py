"""Schema ``day2``: whose it is, whose the database is, and how older books are taken up."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from core.errors import (
    AccessDenied,
    AwaitsPerson,
    LockBusy,
    ManagedByAnother,
    MigrationError,
    Rejected,
)
from core.model import Action, Declared, Kind, Parameters, Request, Result, TargetSource, Trigger
from core.outcome import Outcome
from core.postgres.session import query
from core.revisions import books
from tests.equipment.site import DATABASE, HEAD_LOGINS, INSTANCE, MASTER_SECRET, Site

OTHER = {"prefix": "other", "allow_rollback": True, "master_secret_name": MASTER_SECRET}


def by_another_stack(site: Site, action: Action = Action.MIGRATE, **fields: object) -> Result:
    """Run as a second stack would, on the same instance."""
    request = site.request(action, fields.pop("target", "head"))  # type: ignore[arg-type]
    settings = site.settings._replace(**OTHER)  # type: ignore[arg-type]
    return site.run(settings=settings, request=request._replace(**fields))  # type: ignore[arg-type]


def passwords(site: Site) -> list[tuple[object, ...]]:
    """Return what the server has of the logins' passwords."""
    return site.query(
        "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY (%s) ORDER BY 1",
        (list(HEAD_LOGINS),),
    )


def told_names(site: Site, field: str = "dbInstanceIdentifier") -> set[object]:
    """Return which instances or clusters the secrets of the logins name."""
    return {site.cloud.secrets[f"day2/orders/{login}"][field] for login in HEAD_LOGINS}


def rename(site: Site, name: str, **changes: object) -> None:
    """Let the instance have another *name*, and *changes*."""
    instance = site.cloud.known.pop(INSTANCE)
    site.cloud.known[name] = instance._replace(identifier=name, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [Action.MIGRATE, Action.ROLLBACK, Action.STAMP])
def test_a_database_of_another_stack_is_left_to_it(site: Site, action: Action) -> None:
    """A second stack would replace every password that the first one's applications use."""
    site.run()
    before = passwords(site)

    with pytest.raises(ManagedByAnother) as caught:
        by_another_stack(site, action, target="004", from_revision="004")

    assert "kept by the stack day2" in str(caught.value)
    assert "action adopt, from_revision and target_revision 004" in str(caught.value)
    assert passwords(site) == before
    assert [name for name in site.cloud.secrets if name.startswith("other/")] == []
    assert site.run().outcome is Outcome.UP_TO_DATE


def test_a_database_is_handed_over_by_adopt(site: Site) -> None:
    """As the message says it: then the new stack keeps it, and the old one is refused."""
    site.run()

    handed = by_another_stack(site, Action.ADOPT, target="004", from_revision="004")

    assert (handed.outcome, handed.report.final_revision) == (Outcome.APPLIED, "004")
    assert by_another_stack(site).outcome is Outcome.UP_TO_DATE
    assert {f"other/orders/{login}" for login in HEAD_LOGINS} <= set(site.cloud.secrets)
    with pytest.raises(ManagedByAnother):
        site.run()
    with pytest.raises(Rejected, match="managed already"):
        by_another_stack(site, Action.ADOPT, target="004", from_revision="004")


def test_a_renamed_instance_keeps_its_secrets(site: Site) -> None:
    """Its applications read them by the old name, and find the new address in them."""
    site.run()
    before, secrets = passwords(site), set(site.cloud.secrets)
    rename(site, "orders2")

    result = site.run(request=site.request()._replace(instance="orders2"))

    assert result.outcome is Outcome.UP_TO_DATE
    assert (passwords(site), set(site.cloud.secrets)) == (before, secrets)
    assert told_names(site) == {"orders2"}


@pytest.mark.parametrize(
    ("trigger", "is_declared"),
    [(Trigger.INSTANCE, True), (Trigger.INSTANCE, False), (Trigger.CLUSTER, True)],
)
def test_an_instance_that_gets_its_old_name_back_has_its_address_in_the_secrets(
    site: Site, trigger: Trigger, *, is_declared: bool
) -> None:
    """The event behind a new name is what tells, whether that name has a target or none yet."""
    site.run()
    kind = Kind.CLUSTER if trigger is Trigger.CLUSTER else Kind.INSTANCE
    field = "dbClusterIdentifier" if trigger is Trigger.CLUSTER else "dbInstanceIdentifier"
    site.cloud.known[INSTANCE] = site.cloud.known[INSTANCE]._replace(kind=kind, writer="orders-1")
    for login in HEAD_LOGINS:
        site.cloud.secrets[f"day2/orders/{login}"][field] = "orders2"
    if is_declared:
        site.cloud.declared[INSTANCE] = Parameters(
            Declared("004", TargetSource.PARAMETER, "/day2/orders/target-revision")
        )

    result = site.run(request=Request(trigger, instance=INSTANCE))

    assert result.reason == (None if is_declared else "no-declared-target")
    assert told_names(site, field) == {INSTANCE}


def test_the_secrets_of_a_renamed_instance_are_not_taken_by_who_has_its_name_now(
    site: Site,
) -> None:
    """The two would lead the applications of one into the other, until one is left to itself."""
    site.run()
    before = {name: dict(text) for name, text in site.cloud.secrets.items()}
    renamed = site.cloud.known[INSTANCE]._replace(identifier="orders2")
    site.cloud.known["orders2"] = renamed
    site.cloud.known[INSTANCE] = site.cloud.known[INSTANCE]._replace(resource_id="db-NEXT")

    with pytest.raises(Rejected, match=r"orders/app_user is in use by instance orders2"):
        site.run()

    assert site.cloud.secrets == before
    for left in (renamed._replace(tags={}), renamed._replace(status="stopped")):
        site.cloud.known["orders2"] = left
        site.cloud.tags = {name: {"day2:dbi-resource-id": "db-ORDERS"} for name in before}
        site.cloud.known[INSTANCE] = site.cloud.known[INSTANCE]._replace(resource_id=left.status)
        assert site.run().report.details["settled_logins"] == list(HEAD_LOGINS)


def test_a_restored_copy_gets_passwords_of_its_own(site: Site) -> None:
    """It is another database: what it keeps must not let anybody into the original."""
    site.run()
    before = passwords(site)
    rename(site, "copy", resource_id="db-COPY")

    result = site.run(request=site.request()._replace(instance="copy"))

    assert result.outcome is Outcome.UP_TO_DATE
    assert passwords(site) != before
    assert {f"day2/copy/{login}" for login in HEAD_LOGINS} <= set(site.cloud.secrets)
    assert site.query("SELECT keeper, dbi_resource_id, secret_folder FROM day2.book") == [
        ("day2", "db-COPY", "day2/copy")
    ]


def test_a_copy_that_follows_the_fleet_keeps_its_logins_as_they_are(site: Site) -> None:
    """It may take its original's name, whose applications come with the passwords they know."""
    site.run(target="003")
    before = passwords(site)
    rename(site, "copy", resource_id="db-COPY")
    fleet = Declared("004", TargetSource.FLEET, "/day2/_fleet/target-revision")
    own = Declared("004", TargetSource.PARAMETER, "/day2/copy/target-revision")

    site.cloud.declared["copy"] = Parameters(fleet)
    first, second = (site.run(request=Request(Trigger.SWEEP, instance="copy")) for _ in "12")

    assert (first.report.applied, second.outcome) == (["004"], Outcome.UP_TO_DATE)
    assert set(before) <= set(passwords(site))
    assert "is a restored copy" in second.report.warnings[0]

    site.cloud.declared["copy"] = Parameters(own)
    site.run(request=Request(Trigger.PARAMETER, instance="copy"))

    assert not set(before) & set(passwords(site))


def test_a_copy_is_compared_with_what_is_promised(site: Site) -> None:
    """As after the switchover of a blue/green deployment, which copies no grants."""
    site.run()
    site.query("REVOKE USAGE ON SCHEMA app_schema FROM app_role")
    site.cloud.known[INSTANCE] = site.cloud.known[INSTANCE]._replace(resource_id="db-GREEN")

    first, second = site.run(), site.run()

    assert "deviation(s) from what its revisions promise" in first.report.warnings[0]
    assert (first.outcome, second.report.warnings) == (Outcome.UP_TO_DATE, [])


def test_a_database_in_a_deployment_is_read_and_not_changed(site: Site) -> None:
    """An event leaves it until the deployment ends, and a person is told at once."""
    site.cloud.deployed = frozenset({site.cloud.known[INSTANCE].arn})

    left = site.run(request=Request(Trigger.SWEEP, instance=INSTANCE))
    with pytest.raises(AwaitsPerson, match="switch over, or delete the deployment"):
        site.run()

    assert (left.outcome, left.reason) == (Outcome.IGNORED, "blue-green")
    assert site.run(Action.STATUS).outcome is Outcome.STATUS
    rename(site, "orders-green-ab12cd", replica_of=INSTANCE)
    for action in (Action.STATUS, Action.PLAN, Action.CHECK):
        looked = site.run(request=Request(Trigger.DIRECT, action, instance="orders-green-ab12cd"))
        assert looked.outcome.success
    assert site.query("SELECT to_regnamespace('day2')") == [(None,)]


def test_a_copy_that_takes_its_originals_name_goes_on_with_its_secrets(site: Site) -> None:
    """Restore, rename, go on (OPERATIONS.md): what applications read is what lets them in."""
    site.run()
    before = {name: dict(text) for name, text in site.cloud.secrets.items()}
    # The snapshot is from before a password was changed.
    site.query("ALTER ROLE app_user PASSWORD 'of the snapshot'")
    site.cloud.known[INSTANCE] = site.cloud.known[INSTANCE]._replace(resource_id="db-COPY")
    site.cloud.declared[INSTANCE] = Parameters(
        Declared("004", TargetSource.PARAMETER, "/day2/orders/target-revision")
    )

    result = site.run(request=Request(Trigger.INSTANCE, instance=INSTANCE))

    assert result.report.details["settled_logins"] == list(HEAD_LOGINS)
    assert site.cloud.secrets == before
    assert site.query("SELECT session_user", user="app_user") == [("app_user",)]


def test_older_books_are_read_as_they_are_and_brought_up_to_date(site: Site) -> None:
    """Looking writes nothing; the first run that may write adds what is missing."""
    site.run()
    site.query("DROP TABLE day2.book, day2.run")
    before = site.next_transaction()

    assert site.run(Action.STATUS).report.final_revision == "004"
    assert site.run(Action.PLAN).report.pending == []
    assert site.next_transaction() == before
    assert site.run().outcome is Outcome.UP_TO_DATE
    assert site.query("SELECT version, keeper FROM day2.book") == [(books.VERSION, "day2")]


def test_newer_books_are_left_as_they_are(site: Site) -> None:
    """An older build that comes back reads what it knows."""
    site.run(target="002")
    site.query("UPDATE day2.book SET version = 99; ALTER TABLE day2.book ADD COLUMN later int")

    assert site.run().outcome is Outcome.APPLIED
    assert site.query("SELECT version FROM day2.book") == [(99,)]


STRANGE = {
    "a table": "CREATE TABLE day2.book (version int)",
    "a view": "CREATE VIEW day2.run AS SELECT 1",
    "a table beside ours": "CREATE TABLE day2.more ()",
    "a function": "CREATE FUNCTION day2.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
}


@pytest.mark.parametrize("statement", STRANGE.values(), ids=STRANGE.keys())
def test_what_a_stranger_made_in_our_schema_is_not_used(site: Site, statement: str) -> None:
    """His trigger or his view would run as the master."""
    site.run(target="001")
    site.query("DROP TABLE day2.book, day2.run; CREATE ROLE mallory")
    site.query("GRANT ALL ON SCHEMA day2 TO mallory")
    site.query(f"SET ROLE mallory; {statement}")

    with pytest.raises(AccessDenied, match=r"holds what we did not make: .* of mallory"):
        site.run()

    assert site.query("SELECT revision FROM day2.history") == [("001",)]


def test_a_schema_made_at_the_same_moment_is_not_taken(site: Site) -> None:
    """IF NOT EXISTS takes what somebody else makes between a look and the statement."""
    site.query("CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE shop TO mallory")
    failed: list[MigrationError] = []

    def migrate() -> None:
        try:
            site.run()
        except MigrationError as error:
            failed.append(error)

    with closing(site.server.superuser(DATABASE)) as stranger:
        query(stranger, "SET ROLE mallory")
        stranger.autocommit = False
        stranger.cursor().execute("CREATE SCHEMA day2")
        runner = threading.Thread(target=migrate)
        runner.start()
        site.wait_until_somebody_waits()
        stranger.commit()
        runner.join()

    assert [type(error) for error in failed] == [LockBusy]
    with pytest.raises(AccessDenied, match="schema day2 belongs to mallory"):
        site.run()


def test_whose_transaction_is_in_the_way_of_ours_is_told(site: Site) -> None:
    """Anybody can begin to make the schema, and not end it: he is named, and can be ended."""
    hasty = site.settings._replace(relation_lock_timeout_ms=100)
    with closing(site.server.superuser(DATABASE)) as stranger:
        query(stranger, "BEGIN; CREATE SCHEMA day2")

        with pytest.raises(LockBusy, match=r"not end that transaction \(55P03\)") as caught:
            site.run(settings=hasty)

        who = f"server process {stranger.info.backend_pid} of {stranger.info.user}"
        assert f"it is one of {who}" in str(caught.value)
    assert site.run().outcome is Outcome.APPLIED


OPEN = """
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON SCHEMAS TO mallory, PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO mallory, PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON SEQUENCES TO mallory, PUBLIC;
"""
MAY = """
    SELECT has_schema_privilege('mallory', 'day2', 'CREATE, USAGE'), bool_or(
        has_table_privilege('mallory', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER'))
    FROM pg_class WHERE relnamespace = 'day2'::regnamespace AND relkind = 'r'
"""


def test_default_privileges_open_no_books(site: Site) -> None:
    """What a team grants of all that the master makes is not granted of these."""
    site.query(f"CREATE ROLE mallory LOGIN; {OPEN}")

    site.run()

    assert site.query(MAY) == [(False, False)]


def test_books_that_were_opened_are_closed_by_the_next_run(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may write in them could say what was applied. Reading is for the team to grant."""
    site.run()
    site.query("CREATE ROLE mallory LOGIN; CREATE ROLE reader LOGIN")
    site.query(
        "GRANT USAGE ON SCHEMA day2 TO mallory, reader; GRANT SELECT ON day2.history TO reader;"
        " GRANT INSERT, TRIGGER ON day2.alembic_version TO mallory"
    )

    assert site.run().outcome is Outcome.UP_TO_DATE

    assert site.query(MAY) == [(False, False)]
    assert site.query("SELECT has_table_privilege('reader', 'day2.history', 'SELECT')") == [(True,)]
    assert "was open for others to write in, and was closed" in caplog.text


def test_trigger_of_somebody_else_on_the_books_stops_the_run(site: Site) -> None:
    """It would run as the master, with the next revision that is recorded."""
    site.run(target="001")
    site.query(
        "CREATE ROLE mallory; CREATE SCHEMA hers AUTHORIZATION mallory;"
        " CREATE FUNCTION hers.gain() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN ALTER ROLE mallory CREATEROLE; RETURN NULL; END $$;"
        " ALTER FUNCTION hers.gain() OWNER TO mallory;"
        " CREATE TRIGGER gain AFTER UPDATE ON day2.alembic_version EXECUTE FUNCTION hers.gain()"
    )

    with pytest.raises(AccessDenied, match="trigger gain on alembic_version of mallory"):
        site.run()

    assert site.query("SELECT rolcreaterole FROM pg_roles WHERE rolname = 'mallory'") == [(False,)]
