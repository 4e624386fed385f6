"""What a run does to a database, what it leaves alone, and what it says of it."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.budget import Budget
from core.errors import AccessDenied, BehindCurrent, DatabaseAhead, RevisionFailed
from core.model import Action, Declared, Parameters, Report, Request, TargetSource, Trigger
from core.outcome import Outcome
from core.postgres.session import query
from core.revisions.history import checksum
from infra.trial.catalogue import catalogue
from tests.equipment.histories import history_of, table
from tests.equipment.site import (
    DATABASE,
    INSTANCE,
    REQUEST_ID,
    REVISIONS,
    Site,
    after_going_back,
    make_empty,
)

OUR_TABLES = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


def report(**known: object) -> Report:
    """Return a report of this instance with what is *known* beside its names."""
    return Report(
        instance=INSTANCE,
        database=DATABASE,
        resource_id="db-ORDERS",
        target_revision="head",
        target_source=TargetSource.REQUEST,
        **known,  # type: ignore[arg-type]
    )


def test_empty_database_is_brought_to_head(site: Site) -> None:
    """A run to head applies every revision, in order, and says so."""
    result = site.run()

    assert (result.outcome, result.message, result.report) == (
        Outcome.APPLIED,
        "Successfully applied 4 migration(s) to reach 004",
        report(final_revision="004", applied=["001", "002", "003", "004"]),
    )


def test_second_run_is_up_to_date(site: Site) -> None:
    """The same request again changes nothing, and says that there is nothing to do."""
    site.run()
    before = site.next_transaction()

    result = site.run()

    assert (result.outcome, result.message, result.report) == (
        Outcome.UP_TO_DATE,
        "No pending migrations - database is up to date!",
        report(previous_revision="004", final_revision="004"),
    )
    assert site.next_transaction() == before


def test_exact_target_leaves_later_revisions_alone(site: Site) -> None:
    """A run to 002 stops there, and a run to head does the rest."""
    first = site.run(target="002")
    second = site.run()

    assert first.report.applied == ["001", "002"]
    assert second.report.applied == ["003", "004"]
    assert second.report.previous_revision == "002"


def test_event_without_target_takes_the_declared_one(site: Site) -> None:
    """A run for an event reads the instance's parameter when it runs."""
    declared = Declared(" 003\n", TargetSource.PARAMETER, f"/day2/{INSTANCE}/target-revision")
    site.cloud.declared[INSTANCE] = Parameters(declared)

    result = site.run(request=Request(Trigger.PARAMETER, instance=INSTANCE))

    assert (result.report.final_revision, result.report.target_source) == (
        "003",
        TargetSource.PARAMETER,
    )


def test_past_base_an_event_without_declared_target_moves_nothing(site: Site) -> None:
    """Deploying a build moves nobody: a database past base waits for its owner's word."""
    site.run(target="001")

    result = site.run(request=Request(Trigger.SWEEP, instance=INSTANCE))

    assert (result.outcome, result.reason, result.report.final_revision) == (
        Outcome.IGNORED,
        "no-declared-target",
        "001",
    )


def test_a_direct_request_without_a_target_may_be_sent_twice(site: Site) -> None:
    """It means head each time, so the second finds nothing to do."""
    first, second = (site.run(request=Request(Trigger.DIRECT, instance=INSTANCE)) for _ in "12")

    assert (first.outcome, first.report.final_revision) == (Outcome.APPLIED, "004")
    assert (second.outcome, second.report.final_revision) == (Outcome.UP_TO_DATE, "004")
    assert second.report.target_source == TargetSource.DEFAULT


def test_results_are_visible_from_a_second_connection(site: Site) -> None:
    """What a run reports is committed: another session sees it."""
    site.run()

    current = site.query("SELECT version_num FROM day2.alembic_version")
    schemas = site.query(
        "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1"
    )

    assert current == [("004",)]
    assert [name for (name,) in schemas] == [
        "analytics",
        "app_schema",
        "audit",
        "day2",
        "information_schema",
        "maintenance",
        "public",
    ]


def test_each_revision_leaves_a_row_in_the_history(site: Site) -> None:
    """The history says what was applied, by whom, for which request, and from which file."""
    begin = datetime.now(UTC)
    site.run()
    end = datetime.now(UTC)

    rows = site.query(
        "SELECT id, revision, direction, description, applied_by, trigger, request_id, checksum"
        " FROM day2.history ORDER BY id"
    )
    times = site.query("SELECT applied_at, duration_ms FROM day2.history ORDER BY id")

    assert rows == [
        (
            number,
            revision.identifier,
            "upgrade",
            revision.description,
            "postgres",
            "direct",
            REQUEST_ID,
            checksum(revision.file),
        )
        for number, revision in enumerate(REVISIONS.history, start=1)
    ]
    assert all(begin <= at <= end and 0 <= taken < 5000 for at, taken in times)
    assert times == sorted(times)


def test_history_is_append_only(site: Site) -> None:
    """Not even the master changes a row of the history by accident."""
    site.run(target="001")

    with closing(site.connect_as_runner()) as session:
        for statement in (
            "UPDATE day2.history SET direction = 'stamp'",
            "DELETE FROM day2.history",
            "TRUNCATE day2.history",
        ):
            with pytest.raises(Exception, match="append-only"):
                query(session, statement)


def test_failing_revision_keeps_those_before_it(site: Site, tmp_path: Path) -> None:
    """A third revision that fails is rolled back whole, and the report has the first two."""
    revisions = history_of(
        tmp_path,
        {
            "a1": table("one"),
            "a2": table("two"),
            "a3": f'{table("three")}; op.execute("SELECT 1 / 0")',
            "a4": table("four"),
        },
    )

    with pytest.raises(RevisionFailed) as caught:
        site.run(revisions=revisions)

    error = caught.value
    assert (str(error), error.revision, error.sqlstate, error.outcome) == (
        "revision a3 failed: 22012 division by zero",
        "a3",
        "22012",
        Outcome.FAILED,
    )
    assert error.report == report(
        final_revision="a2", applied=["a1", "a2"], pending=["a3", "a4"], at="a3.py:14"
    )
    assert site.query(OUR_TABLES) == [("one",), ("two",)]
    assert site.query("SELECT revision FROM day2.history ORDER BY id") == [("a1",), ("a2",)]


DEFERRED = """
CREATE TABLE public.seen (at_commit interval);
CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE public.seen SET at_commit = current_setting('statement_timeout')::interval;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER look AFTER INSERT ON public.seen
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.look();
INSERT INTO public.seen VALUES (NULL);
"""


def test_deferred_work_has_the_time_that_is_left(site: Site, tmp_path: Path) -> None:
    """What a revision leaves to its commit is not cut off by the timeout of our own statements."""
    revisions = history_of(tmp_path, {"a1": f"op.execute({DEFERRED!r})", "a2": table("two")})

    site.run(revisions=revisions)

    assert site.query("SELECT at_commit > interval '40 s' FROM public.seen") == [(True,)]


def test_corrected_revision_is_applied_by_the_next_run(site: Site, tmp_path: Path) -> None:
    """After a failure the next run carries on where the last one stopped."""
    broken = history_of(tmp_path / "broken", {"a1": table("one"), "a2": 'op.execute("SELEC")'})
    mended = history_of(tmp_path / "mended", {"a1": table("one"), "a2": table("two")})
    with pytest.raises(RevisionFailed, match="revision a2 failed: 42601 syntax error"):
        site.run(revisions=broken)

    result = site.run(revisions=mended)

    assert result.report == report(previous_revision="a1", final_revision="a2", applied=["a2"])


def test_failure_in_python_is_reported_as_the_revisions_own(site: Site, tmp_path: Path) -> None:
    """A revision may raise anything: it is named, with the error's own name."""
    revisions = history_of(tmp_path, {"a1": table("one"), "a2": "[][0]"})

    with pytest.raises(RevisionFailed) as caught:
        site.run(revisions=revisions)

    assert str(caught.value) == "revision a2 failed: IndexError: list index out of range"
    assert caught.value.report == report(
        final_revision="a1", applied=["a1"], pending=["a2"], at="a2.py:14"
    )


def test_revision_does_not_inherit_the_session_of_the_one_before(
    site: Site, tmp_path: Path
) -> None:
    """A role, a search path or a timeout that one revision sets is gone in the next."""
    settings = (
        "current_user, current_setting('search_path') AS search_path,"
        " current_setting('statement_timeout') AS statement_timeout"
    )
    revisions = history_of(
        tmp_path,
        {
            "a1": "operations.role('other');"
            ' op.execute("SET ROLE other; SET search_path = day2; SET statement_timeout = 1000")',
            "a2": f'op.execute("CREATE TABLE public.seen AS SELECT {settings}")',
        },
    )

    site.run(revisions=revisions)

    ((user, path, timeout),) = site.query("SELECT * FROM public.seen")
    assert (user, path) == ("postgres", '"public", pg_temp')
    assert timeout not in ("1s", "0")


def test_revision_that_meets_a_lock_is_tried_again(site: Site, tmp_path: Path) -> None:
    """A table in somebody's use is waited for shortly, and again, until it is free."""
    revisions = history_of(
        tmp_path,
        {"a1": table("busy"), "a2": 'op.execute("ALTER TABLE public.busy ADD COLUMN id int")'},
    )
    site.run(target="a1", revisions=revisions)
    holder = site.server.superuser(DATABASE)
    query(holder, "BEGIN; LOCK TABLE public.busy")
    pauses: list[float] = []

    def let_go(seconds: float) -> None:
        pauses.append(seconds)
        query(holder, "COMMIT")

    with closing(holder):
        end = time.monotonic() + 60
        budget = Budget(lambda: end - time.monotonic(), 0, sleep=let_go)
        result = site.run(revisions=revisions, budget=budget)

    assert (result.outcome, result.report.applied, len(pauses)) == (Outcome.APPLIED, ["a2"], 1)


def test_run_out_of_time_stops_between_revisions(site: Site) -> None:
    """With less than a slice left after the first revision, the rest is asked for on the bus."""
    settings = site.settings._replace(minimum_slice_seconds=120)

    result = site.run(settings=settings)

    assert (result.outcome, result.report) == (
        Outcome.INCOMPLETE,
        report(final_revision="001", applied=["001"], pending=["002", "003", "004"]),
    )
    assert site.cloud.events == [
        (
            "Migration Requested",
            {
                "instance": INSTANCE,
                "action": "migrate",
                "target_revision": "head",
                "continues": REQUEST_ID,
            },
        )
    ]


def test_applications_own_version_table_is_left_alone(site: Site) -> None:
    """``public.alembic_version`` with another tool's revision is neither trusted nor touched."""
    site.query(
        "CREATE TABLE public.alembic_version (version_num varchar(32) NOT NULL);"
        "INSERT INTO public.alembic_version VALUES ('fe12ab')",
        user="postgres",
    )

    result = site.run()

    assert (result.outcome, result.report.final_revision) == (Outcome.APPLIED, "004")
    assert site.query("SELECT version_num, xmin = xmax FROM public.alembic_version") == [
        ("fe12ab", False)
    ]


def test_target_behind_the_database_is_refused(site: Site) -> None:
    """A run never goes back: an older target is refused, with nothing done."""
    site.run(target="003")
    before = catalogue(site.server, DATABASE)

    with pytest.raises(BehindCurrent) as caught:
        site.run(target="002")

    assert caught.value.report is not None
    assert caught.value.report.final_revision == "003"
    assert catalogue(site.server, DATABASE) == before


def test_database_ahead_of_the_build_is_refused(site: Site, tmp_path: Path) -> None:
    """A database at a revision that the build lacks is left where it is."""
    site.run()
    older = history_of(tmp_path, {"001": table("one"), "002": table("two")})

    with pytest.raises(DatabaseAhead, match="is at revision '004', which this build does not"):
        site.run(revisions=older)

    assert site.query("SELECT version_num FROM day2.alembic_version") == [("004",)]


@pytest.mark.parametrize("action", [Action.MIGRATE, Action.STATUS, Action.PLAN])
def test_schema_of_somebody_else_is_refused(site: Site, action: Action) -> None:
    """A schema ``day2`` that another role made could run its code as us: nothing is done."""
    site.query("CREATE ROLE mallory; CREATE SCHEMA day2 AUTHORIZATION mallory")

    with pytest.raises(AccessDenied) as caught:
        site.run(action)

    assert str(caught.value) == (
        "schema day2 belongs to mallory, not to the user we connect as: "
        "hand it over or drop it; nothing was changed"
    )
    found = site.query("SELECT relname FROM pg_class WHERE relnamespace = 'day2'::regnamespace")
    assert found == []


@pytest.mark.parametrize("master", ["Master-1", "ops@example"])
def test_master_may_have_a_name_that_needs_quotes(site: Site, master: str) -> None:
    """Up, all the way down and up again, as a master with capitals, a dash or an at sign."""
    make_empty(site.server, master=master)
    odd = Site(site.server, site.ca_file, master=master)
    before = catalogue(odd.server, DATABASE, without=("day2",))

    odd.run()
    odd.downgrade(*reversed(REVISIONS.identifiers))
    back = catalogue(odd.server, DATABASE, without=("day2",))
    result = odd.run()

    assert back == after_going_back(before)
    assert result.report.applied == ["001", "002", "003", "004"]
    assert odd.query("SELECT current_user", user="app_user") == [("app_role",)]


def test_going_back_keeps_data(site: Site) -> None:
    """Tables of the application stay, with heirs that may do nothing, and come back after."""
    site.run()
    site.query(
        "CREATE TABLE app_schema.kept AS SELECT 1 AS id;"
        "CREATE VIEW app_schema.seen AS SELECT id FROM app_schema.kept;"
        "CREATE FUNCTION app_schema.one() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE TABLE analytics.facts AS SELECT 2 AS id;"
        "SELECT audit.record_event('export', 'May')",
        user="app_user",
    )
    site.query(
        "SET ROLE backup_role; CREATE TABLE maintenance.runs AS SELECT 3 AS id", user="backup_user"
    )
    contents = (
        "SELECT s.id, k.id, f.id, r.id, app_schema.one(), e.description FROM app_schema.seen AS s,"
        " app_schema.kept AS k, analytics.facts AS f, maintenance.runs AS r,"
        " audit.compliance_events AS e"
    )
    owners = (
        "SELECT relname::text, relowner::regrole::text FROM pg_class"
        " WHERE relname IN ('kept', 'seen', 'facts', 'runs', 'compliance_events') ORDER BY 1"
    )
    at_head = site.query(owners)

    site.downgrade(*reversed(REVISIONS.identifiers))
    kept = site.query(contents, user="postgres")
    owners_at_base = site.query(owners)
    site.run()

    assert kept == [(1, 1, 2, 3, 1, "May")]
    assert {owner for _, owner in owners_at_base} == {
        "postgres",
        "day2_retired_app_role",
        "day2_retired_backup_role",
    }
    assert site.query(owners) == at_head
    assert site.query(contents) == kept
    site.query("ALTER TABLE app_schema.kept ADD COLUMN name text", user="app_user")
    assert site.query("SELECT id FROM analytics.facts", user="analytics_user") == [(2,)]
    assert site.query("SELECT description FROM audit.compliance_events", user="backup_user") == [
        ("May",)
    ]


def test_downgrade_retires_the_secret_and_upgrade_takes_it_up_again(site: Site) -> None:
    """A login's secret outlives it, tagged; the login comes back with the same password."""
    name = f"day2/{INSTANCE}/analytics_user"
    site.run(target="002")
    kept = dict(site.cloud.secrets[name])
    tags = dict(site.cloud.tags[name])

    site.downgrade("002")
    tags_while_away = set(site.cloud.tags[name]) - tags.keys()
    site.run(target="002")

    assert tags_while_away == {"day2:retired"}
    assert (site.cloud.secrets[name], site.cloud.tags[name]) == (kept, tags)
    assert site.query("SELECT session_user", user="analytics_user") == [("analytics_user",)]


def test_password_of_a_login_in_use_is_never_reset(site: Site) -> None:
    """A login that is there with its secret keeps its password, whatever is applied again."""
    site.run(target="001")
    verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'"
    before = site.query(verifier)
    with closing(site.connect_as_runner()) as session:
        query(session, "DELETE FROM day2.alembic_version")

    result = site.run(target="001")

    assert result.report.applied == ["001"]
    assert site.query(verifier) == before


@pytest.mark.parametrize(
    "password",
    ["pass%word@:/?#", "a 'quoted' \"pass\\word\"", "пароль-密码-🔑", "x" * 128],
    ids=["marks", "quotes", "unicode", "long"],
)
def test_password_that_somebody_stored_is_taken_up(site: Site, password: str) -> None:
    """A secret that is tagged to be taken gives its login the password in it, odd or not."""
    name = f"day2/{INSTANCE}/app_user"
    site.cloud.secrets[name] = {"password": password}
    site.cloud.tags[name] = {"day2:unset": "true"}

    site.run(target="001")

    assert site.cloud.secrets[name]["password"] == password
    assert site.query("SELECT session_user", user="app_user") == [("app_user",)]
    assert password not in site.server.log


@pytest.mark.parametrize("when", ["before_execute", "after_execute"])
def test_whoever_listens_hears_of_plain_statements(site: Site, tmp_path: Path, when: str) -> None:
    """They go to the driver without SQLAlchemy's compiler, but not past its events."""
    body = (
        "from sqlalchemy import event; heard = []\n"
        f"    event.listen(op.get_bind(), '{when}', lambda *given: heard.append(str(given[1])))\n"
        "    op.execute('SELECT 1'); assert heard == ['SELECT 1'], heard"
    )

    assert site.run(revisions=history_of(tmp_path, {"a1": body})).outcome is Outcome.APPLIED
