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
from tests.integration.bench import DATABASE, INSTANCE, REQUEST_ID, REVISIONS, Bench, make_empty
from tests.integration.catalog import catalogue
from tests.integration.histories import history_of, table

OUR_TABLES = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


def report(**known: object) -> Report:
    """Return a report of this instance with what is *known* beside its names."""
    return Report(
        instance=INSTANCE,
        database=DATABASE,
        dbi_resource_id="db-ORDERS",
        target_revision="head",
        target_source=TargetSource.REQUEST,
        **known,  # type: ignore[arg-type]
    )


def test_empty_database_is_brought_to_head(bench: Bench) -> None:
    """A run to head applies every revision, in order, and says so."""
    result = bench.run()

    assert (result.outcome, result.message, result.report) == (
        Outcome.APPLIED,
        "Successfully applied 4 migration(s) to reach 004",
        report(final_revision="004", applied=["001", "002", "003", "004"]),
    )


def test_second_run_is_up_to_date(bench: Bench) -> None:
    """The same request again changes nothing, and says that there is nothing to do."""
    bench.run()
    before = bench.next_transaction()

    result = bench.run()

    assert (result.outcome, result.message, result.report) == (
        Outcome.UP_TO_DATE,
        "No pending migrations - database is up to date!",
        report(previous_revision="004", final_revision="004"),
    )
    assert bench.next_transaction() == before


def test_exact_target_leaves_later_revisions_alone(bench: Bench) -> None:
    """A run to 002 stops there, and a run to head does the rest."""
    first = bench.run(target="002")
    second = bench.run()

    assert first.report.applied == ["001", "002"]
    assert second.report.applied == ["003", "004"]
    assert second.report.previous_revision == "002"


def test_event_without_target_takes_the_declared_one(bench: Bench) -> None:
    """A run for an event reads the instance's parameter when it runs."""
    declared = Declared(" 003\n", TargetSource.PARAMETER, f"/day2/{INSTANCE}/target-revision")
    bench.cloud.declared[INSTANCE] = Parameters(declared)

    result = bench.run(request=Request(Trigger.PARAMETER, instance=INSTANCE))

    assert (result.report.final_revision, result.report.target_source) == (
        "003",
        TargetSource.PARAMETER,
    )


def test_past_base_an_event_without_declared_target_moves_nothing(bench: Bench) -> None:
    """Deploying a build moves nobody: a database past base waits for its owner's word."""
    bench.run(target="001")

    result = bench.run(request=Request(Trigger.SWEEP, instance=INSTANCE))

    assert (result.outcome, result.reason, result.report.final_revision) == (
        Outcome.IGNORED,
        "no-declared-target",
        "001",
    )


def test_results_are_visible_from_a_second_connection(bench: Bench) -> None:
    """What a run reports is committed: another session sees it."""
    bench.run()

    current = bench.query("SELECT version_num FROM day2.alembic_version")
    schemas = bench.query(
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


def test_each_revision_leaves_a_row_in_the_history(bench: Bench) -> None:
    """The history says what was applied, by whom, for which request, and from which file."""
    begin = datetime.now(UTC)
    bench.run()
    end = datetime.now(UTC)

    rows = bench.query(
        "SELECT id, revision, direction, description, applied_by, trigger, request_id, checksum"
        " FROM day2.history ORDER BY id"
    )
    times = bench.query("SELECT applied_at, duration_ms FROM day2.history ORDER BY id")

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


def test_history_is_append_only(bench: Bench) -> None:
    """Not even the master changes a row of the history by accident."""
    bench.run(target="001")

    with closing(bench.connect_as_runner()) as session:
        for statement in (
            "UPDATE day2.history SET direction = 'stamp'",
            "DELETE FROM day2.history",
            "TRUNCATE day2.history",
        ):
            with pytest.raises(Exception, match="append-only"):
                query(session, statement)


def test_failing_revision_keeps_those_before_it(bench: Bench, tmp_path: Path) -> None:
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
        bench.run(revisions=revisions)

    error = caught.value
    assert (str(error), error.revision, error.sqlstate, error.outcome) == (
        "revision a3 failed: 22012 division by zero",
        "a3",
        "22012",
        Outcome.FAILED,
    )
    assert error.report == report(final_revision="a2", applied=["a1", "a2"], pending=["a3", "a4"])
    assert bench.query(OUR_TABLES) == [("one",), ("two",)]
    assert bench.query("SELECT revision FROM day2.history ORDER BY id") == [("a1",), ("a2",)]


def test_further_revision_costs_three_round_trips(bench: Bench, tmp_path: Path) -> None:
    """Its own statement, our record, and the commit that opens the next transaction."""
    revisions = history_of(tmp_path, {f"a{number}": table(f"t{number}") for number in range(9)})

    def round_trips(target: str) -> int:
        before = bench.server.log.count(" LOG:  statement: ")
        bench.run(target=target, revisions=revisions)
        return bench.server.log.count(" LOG:  statement: ") - before

    bench.run(target="a0", revisions=revisions)
    of_two, of_six = round_trips("a2"), round_trips("a8")

    assert of_six - of_two == 4 * 3


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


def test_deferred_work_has_the_time_that_is_left(bench: Bench, tmp_path: Path) -> None:
    """What a revision leaves to its commit is not cut off by the timeout of our own statements."""
    revisions = history_of(tmp_path, {"a1": f"op.execute({DEFERRED!r})", "a2": table("two")})

    bench.run(revisions=revisions)

    assert bench.query("SELECT at_commit > interval '40 s' FROM public.seen") == [(True,)]


def test_corrected_revision_is_applied_by_the_next_run(bench: Bench, tmp_path: Path) -> None:
    """After a failure the next run carries on where the last one stopped."""
    broken = history_of(tmp_path / "broken", {"a1": table("one"), "a2": 'op.execute("SELEC")'})
    mended = history_of(tmp_path / "mended", {"a1": table("one"), "a2": table("two")})
    with pytest.raises(RevisionFailed, match="revision a2 failed: 42601 syntax error"):
        bench.run(revisions=broken)

    result = bench.run(revisions=mended)

    assert result.report == report(previous_revision="a1", final_revision="a2", applied=["a2"])


def test_failure_in_python_is_reported_as_the_revisions_own(bench: Bench, tmp_path: Path) -> None:
    """A revision may raise anything: it is named, with the error's own name."""
    revisions = history_of(tmp_path, {"a1": table("one"), "a2": "[][0]"})

    with pytest.raises(RevisionFailed) as caught:
        bench.run(revisions=revisions)

    assert str(caught.value) == "revision a2 failed: IndexError: list index out of range"
    assert caught.value.report == report(final_revision="a1", applied=["a1"], pending=["a2"])


def test_revision_does_not_inherit_the_session_of_the_one_before(
    bench: Bench, tmp_path: Path
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
            ' op.execute("SET ROLE other; SET search_path = day2; SET statement_timeout = 1")',
            "a2": f'op.execute("CREATE TABLE public.seen AS SELECT {settings}")',
        },
    )

    bench.run(revisions=revisions)

    ((user, path, timeout),) = bench.query("SELECT * FROM public.seen")
    assert (user, path) == ("postgres", '"$user", public')
    assert timeout not in ("1ms", "0")


def test_revision_that_meets_a_lock_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    """A table in somebody's use is waited for shortly, and again, until it is free."""
    revisions = history_of(
        tmp_path,
        {"a1": table("busy"), "a2": 'op.execute("ALTER TABLE public.busy ADD COLUMN id int")'},
    )
    bench.run(target="a1", revisions=revisions)
    holder = bench.server.superuser(DATABASE)
    query(holder, "BEGIN; LOCK TABLE public.busy")
    pauses: list[float] = []

    def let_go(seconds: float) -> None:
        pauses.append(seconds)
        query(holder, "COMMIT")

    with closing(holder):
        end = time.monotonic() + 60
        budget = Budget(lambda: end - time.monotonic(), 0, sleep=let_go)
        result = bench.run(revisions=revisions, budget=budget)

    assert (result.outcome, result.report.applied, len(pauses)) == (Outcome.APPLIED, ["a2"], 1)


def test_run_out_of_time_stops_between_revisions(bench: Bench) -> None:
    """With less than a slice left after the first revision, the rest is asked for on the bus."""
    settings = bench.settings._replace(minimum_slice_seconds=120)

    result = bench.run(settings=settings)

    assert (result.outcome, result.report) == (
        Outcome.INCOMPLETE,
        report(final_revision="001", applied=["001"], pending=["002", "003", "004"]),
    )
    assert bench.cloud.events == [
        (
            "Migration Requested",
            {"instance": INSTANCE, "action": "migrate", "target_revision": "head"},
        )
    ]


def test_applications_own_version_table_is_left_alone(bench: Bench) -> None:
    """``public.alembic_version`` with another tool's revision is neither trusted nor touched."""
    bench.query(
        "CREATE TABLE public.alembic_version (version_num varchar(32) NOT NULL);"
        "INSERT INTO public.alembic_version VALUES ('fe12ab')",
        user="postgres",
    )

    result = bench.run()

    assert (result.outcome, result.report.final_revision) == (Outcome.APPLIED, "004")
    assert bench.query("SELECT version_num, xmin = xmax FROM public.alembic_version") == [
        ("fe12ab", False)
    ]


def test_target_behind_the_database_is_refused(bench: Bench) -> None:
    """A run never goes back: an older target is refused, with nothing done."""
    bench.run(target="003")
    before = catalogue(bench.server, DATABASE)

    with pytest.raises(BehindCurrent) as caught:
        bench.run(target="002")

    assert caught.value.report is not None
    assert caught.value.report.final_revision == "003"
    assert catalogue(bench.server, DATABASE) == before


def test_database_ahead_of_the_build_is_refused(bench: Bench, tmp_path: Path) -> None:
    """A database at a revision that the build lacks is left where it is."""
    bench.run()
    older = history_of(tmp_path, {"001": table("one"), "002": table("two")})

    with pytest.raises(DatabaseAhead, match="is at revision '004', which this build does not"):
        bench.run(revisions=older)

    assert bench.query("SELECT version_num FROM day2.alembic_version") == [("004",)]


@pytest.mark.parametrize("action", [Action.MIGRATE, Action.STATUS, Action.PLAN])
def test_schema_of_somebody_else_is_refused(bench: Bench, action: Action) -> None:
    """A schema ``day2`` that another role made could run its code as us: nothing is done."""
    bench.query("CREATE ROLE mallory; CREATE SCHEMA day2 AUTHORIZATION mallory")

    with pytest.raises(AccessDenied) as caught:
        bench.run(action)

    assert str(caught.value) == (
        "schema day2 belongs to mallory, not to the user we connect as: "
        "hand it over or drop it; nothing was changed"
    )
    found = bench.query("SELECT relname FROM pg_class WHERE relnamespace = 'day2'::regnamespace")
    assert found == []


@pytest.mark.parametrize("master", ["Master-1", "ops@example"])
def test_master_may_have_a_name_that_needs_quotes(bench: Bench, master: str) -> None:
    """Up, all the way down and up again, as a master with capitals, a dash or an at sign."""
    make_empty(bench.server, master=master)
    odd = Bench(bench.server, bench.ca_file, master=master)
    before = catalogue(odd.server, DATABASE, without=("day2",))

    odd.run()
    odd.downgrade(*reversed(REVISIONS.identifiers))
    back = catalogue(odd.server, DATABASE, without=("day2",))
    result = odd.run()

    assert back == before
    assert result.report.applied == ["001", "002", "003", "004"]
    assert odd.query("SELECT current_user", user="app_user") == [("app_role",)]


def test_going_back_keeps_data(bench: Bench) -> None:
    """Tables of the application stay with the master, and are the application's again after."""
    bench.run()
    bench.query(
        "CREATE TABLE app_schema.kept AS SELECT 1 AS id;"
        "CREATE VIEW app_schema.seen AS SELECT id FROM app_schema.kept;"
        "CREATE FUNCTION app_schema.one() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE TABLE analytics.facts AS SELECT 2 AS id;"
        "SELECT audit.record_event('export', 'May')",
        user="app_user",
    )
    bench.query(
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
    at_head = bench.query(owners)

    bench.downgrade(*reversed(REVISIONS.identifiers))
    kept = bench.query(contents, user="postgres")
    owners_at_base = bench.query(owners)
    bench.run()

    assert kept == [(1, 1, 2, 3, 1, "May")]
    assert {owner for _, owner in owners_at_base} == {"postgres"}
    assert bench.query(owners) == at_head
    assert bench.query(contents) == kept
    bench.query("ALTER TABLE app_schema.kept ADD COLUMN name text", user="app_user")
    assert bench.query("SELECT id FROM analytics.facts", user="analytics_user") == [(2,)]
    assert bench.query("SELECT description FROM audit.compliance_events", user="backup_user") == [
        ("May",)
    ]


def test_downgrade_retires_the_secret_and_upgrade_takes_it_up_again(bench: Bench) -> None:
    """A login's secret outlives it, tagged; the login comes back with the same password."""
    name = f"day2/{INSTANCE}/analytics_user"
    bench.run(target="002")
    kept = dict(bench.cloud.secrets[name])
    tags = dict(bench.cloud.tags[name])

    bench.downgrade("002")
    tags_while_away = set(bench.cloud.tags[name]) - tags.keys()
    bench.run(target="002")

    assert tags_while_away == {"day2:retired"}
    assert (bench.cloud.secrets[name], bench.cloud.tags[name]) == (kept, tags)
    assert bench.query("SELECT session_user", user="analytics_user") == [("analytics_user",)]


def test_password_of_a_login_in_use_is_never_reset(bench: Bench) -> None:
    """A login that is there with its secret keeps its password, whatever is applied again."""
    bench.run(target="001")
    verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'"
    before = bench.query(verifier)
    with closing(bench.connect_as_runner()) as session:
        query(session, "DELETE FROM day2.alembic_version")

    result = bench.run(target="001")

    assert result.report.applied == ["001"]
    assert bench.query(verifier) == before


@pytest.mark.parametrize(
    "password",
    ["pass%word@:/?#", "a 'quoted' \"pass\\word\"", "пароль-密码-🔑", "x" * 128],
    ids=["marks", "quotes", "unicode", "long"],
)
def test_password_that_somebody_stored_is_taken_up(bench: Bench, password: str) -> None:
    """A secret that is there before its login gives the login its password, odd or not."""
    name = f"day2/{INSTANCE}/app_user"
    bench.cloud.secrets[name] = {"password": password}

    bench.run(target="001")

    assert bench.cloud.secrets[name]["password"] == password
    assert bench.query("SELECT session_user", user="app_user") == [("app_user",)]
    assert password not in bench.server.log
