"""A database whose server fails over to another: nothing is lost, and the run goes on there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.access.locate import locate
from core.actions.apply import apply
from core.actions.run import Run
from core.budget import Budget
from core.decisions.plan import Plan
from core.errors import NotReady
from core.postgres.lock import take_lock
from core.postgres.session import query
from core.revisions.runner import Revisions
from tests.chaos.contract import ALLOWED
from tests.equipment.pair import (
    Pair,
    followed,
    held,
    wait_for_sleep,
    wait_for_waiter,
)
from tests.equipment.proxy import Proxy
from tests.equipment.site import Site
from tests.equipment.waiting import wait_for
from tests.equipment.world import INSTANCE, World, event

MAKE = 'op.execute("CREATE TABLE {} (id int)")'
MakeHistory = Callable[..., Path]

# As long as it takes to fail over, and a little.
SECONDS = 30.0
SHORT_SECONDS = 6.0

# What a run says that met a server which takes no writes.
READER = "is a reader and takes no writes (25006)"


@pytest.fixture
def pair(world: World) -> Iterator[Pair]:
    """Have the world's server followed by another, and its endpoint lead to it."""
    with followed(world) as pair:
        yield pair


@pytest.mark.parametrize("is_cluster", [True, False])
def test_an_endpoint_that_still_names_the_old_writer_is_tried_again(
    pair: Pair, *, is_cluster: bool
) -> None:
    """On a fresh connection each time, until it names the new one."""
    if is_cluster:
        pair.world.declare_cluster()
    pair.endpoint.lead_to(pair.reader.port)

    call = pair.world.begin(seconds=SECONDS)
    call.wait_for_log(READER)
    pair.endpoint.lead_to(pair.writer.port)
    answer = call.answer()

    assert (answer.outcome, answer.body["final_revision"]) == ("APPLIED", "004"), answer


@pytest.mark.parametrize("action", ["migrate", "adopt"])
def test_a_server_that_takes_no_writes_is_not_ready(pair: Pair, action: str) -> None:
    """Within the budget no writer came: nothing failed, and nothing was changed."""
    pair.endpoint.lead_to(pair.reader.port)
    more = {"from_revision": "base"} if action == "adopt" else {}

    answer = pair.world.call(
        pair.world.request(action, "001", **more),
        seconds=SHORT_SECONDS,
        variables={"DAY2_ALLOW_ROLLBACK": "true"},
    )

    assert (answer.outcome, answer.response["statusCode"]) == ("NOT_READY", 503), answer
    assert READER in answer.body["message"]
    assert answer.body["applied_migrations"] == []
    assert pair.world.history() == []


@pytest.mark.parametrize("mode", ["fast", "immediate"], ids=["ended (57P01)", "lost"])
def test_a_failover_inside_a_revision_goes_on_at_the_new_writer(
    pair: Pair, history: MakeHistory, mode: str
) -> None:
    """What was committed is kept, what was not is done there, and each is told once."""
    ini = history(
        {
            "a1": MAKE.format("one"),
            "a2": f"{MAKE.format('two')}\n{pair.slow_on_the_first()}",
            "a3": MAKE.format("three"),
        }
    )
    call = pair.world.begin(ini=ini, seconds=SECONDS)
    pair.wait_for_sleep()
    pair.fail_over(mode)
    answer = call.answer()

    body = answer.body
    assert answer.outcome == "APPLIED", answer
    assert body["applied_migrations"] == ["a1", "a2", "a3"]
    assert (body["previous_revision"], body["final_revision"]) == (None, "a3")
    assert (body["pending_migrations"], body["success"]) == ([], True)
    assert body["warnings"][-1] == "its server failed over: the run went on at the new writer"
    assert pair.world.history() == [("upgrade", "a1"), ("upgrade", "a2"), ("upgrade", "a3")]
    pair.world.wait_for_lock(held=False)


def test_a_reader_that_is_still_named_after_a_failover_is_not_read_back_from(
    pair: Pair, history: MakeHistory
) -> None:
    """What it says may be of a moment ago; it is waited for until it writes."""
    ini = history({"a1": MAKE.format("one"), "a2": pair.slow_on_the_first()})
    call = pair.world.begin(ini=ini, seconds=SECONDS)
    pair.wait_for_sleep()
    pair.fail_over(promote=False)
    call.wait_for_log(READER)
    pair.reader.promote()
    answer = call.answer()

    assert answer.outcome == "APPLIED", answer
    assert answer.body["applied_migrations"] == ["a1", "a2"]


def test_a_failover_without_a_new_writer_claims_nothing(pair: Pair, history: MakeHistory) -> None:
    """The time ended first: neither that it failed, nor what was applied, is known."""
    ini = history({"a1": MAKE.format("one"), "a2": pair.slow_on_the_first()})
    call = pair.world.begin(ini=ini, seconds=SHORT_SECONDS + 4)
    pair.wait_for_sleep()
    pair.fail_over(promote=False)
    answer = call.answer()

    assert answer.outcome == "NOT_READY", answer
    assert answer.body["final_revision"] is None
    assert answer.body["applied_migrations"] == []


def test_a_target_that_was_chosen_stays_chosen(pair: Pair, history: MakeHistory) -> None:
    """Past base nobody has declared one: the run was begun from base, and ends at its head."""
    ini = history({"a1": MAKE.format("one"), "a2": pair.slow_on_the_first()})
    call = pair.world.begin(event("requested"), ini=ini, seconds=SECONDS)
    pair.wait_for_sleep()
    pair.fail_over()
    answer = call.answer()

    assert (answer.outcome, answer.body["final_revision"]) == ("APPLIED", "a2"), answer
    assert answer.body["target_source"] == "default"


def test_what_the_new_writer_never_had_is_done_again(pair: Pair, history: MakeHistory) -> None:
    """A global failover may lose what was committed: the books are those of the new writer."""
    ini = history({"a1": MAKE.format("one"), "a2": pair.slow_on_the_first()})
    pair.fall_behind()
    pair.world.call(pair.world.request(target="a1"), ini=ini)
    call = pair.world.begin(ini=ini, seconds=SECONDS)
    wait_for_sleep(pair.world)
    assert pair.world.history() == [("upgrade", "a1")]
    pair.fail_over()
    answer = call.answer()

    assert answer.outcome == "APPLIED", answer
    assert answer.body["applied_migrations"] == ["a1", "a2"]
    assert pair.world.history() == [("upgrade", "a1"), ("upgrade", "a2")]
    assert pair.world.query("SELECT keeper FROM day2.book") == [("day2",)]


def test_what_committed_by_itself_is_left_to_a_person(pair: Pair, history: MakeHistory) -> None:
    """A revision that had committed something when its server went is not begun again."""
    ini = history(
        {
            "a1": f'op.execute("COMMIT")\n{MAKE.format("one")}\nop.execute("COMMIT; BEGIN")\n'
            f"{pair.slow_on_the_first()}"
        }
    )
    call = pair.world.begin(ini=ini, seconds=SECONDS)
    pair.wait_for_sleep()
    pair.fail_over()
    answer = call.answer()

    assert answer.outcome == "FAILED", answer
    assert "what it committed itself before is kept" in answer.body["message"]
    assert answer.body["final_revision"] is None


def test_a_revision_that_brings_its_server_down_is_not_run_for_ever(
    world: World, history: MakeHistory
) -> None:
    """Three servers are enough to know."""
    ini = history({"a1": 'op.execute("SELECT pg_sleep(60)")'})
    call = world.begin(ini=ini, seconds=60)
    for _ in range(3):
        wait_for_sleep(world)
        world.server.stop("immediate")
        world.server.start()
    answer = call.answer()

    assert answer.outcome == "NOT_READY", answer
    assert world.history() == []


def test_failovers_between_two_revisions_and_inside_one_are_gone_on_from(
    pair: Pair, history: MakeHistory, tmp_path: Path
) -> None:
    """There and back in one run: each revision is done once, and told once."""
    reached, goes_on = tmp_path / "reached", tmp_path / "goes-on"
    port = f"current_setting('port')::int = {pair.reader.port}"
    ini = history(
        {
            "a1": MAKE.format("one"),
            # Nothing was sent for it yet.
            "a2": f"open({str(reached)!r}, 'w').close()\nfrom os.path import exists\n"
            f"while not exists({str(goes_on)!r}):\n    time.sleep(0.01)\n{MAKE.format('two')}",
            "a3": f'op.execute("SELECT pg_sleep(CASE WHEN {port} THEN 60 ELSE 0 END)")',
        }
    )
    call = pair.world.begin(ini=ini, seconds=SECONDS)
    wait_for(reached.exists, "a2 to begin")
    assert pair.world.history() == [("upgrade", "a1")]
    pair.catch_up()
    pair.fail_over()
    goes_on.touch()
    wait_for_sleep(pair.world)
    pair.fail_back()
    answer = call.answer()

    assert answer.outcome == "APPLIED", answer
    assert answer.body["applied_migrations"] == ["a1", "a2", "a3"]
    assert pair.world.history() == [("upgrade", "a1"), ("upgrade", "a2"), ("upgrade", "a3")]
    assert pair.world.query("SELECT count(*) FROM two") == [(0,)]


# Who waits for a lock that a test holds does so for as long as it does.
PATIENT = ALLOWED | {"DAY2_RELATION_LOCK_TIMEOUT_MS": "20000"}
WAITERS = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
BOOKS = "LOCK TABLE day2.alembic_version IN SHARE MODE"
UP = [("upgrade", "a1"), ("upgrade", "a2"), ("upgrade", "a3")]


@pytest.mark.parametrize(
    ("asked", "applied", "kept"),
    [
        (("migrate", "a1", "a3"), ["a2", "a3"], UP),
        (("migrate", "a2", "a3"), ["a3"], UP),
        (("stamp", "a2", "a3"), [], [*UP[:2], *(("stamp", one) for one in ("a1", "a2", "a3"))]),
        (("rollback", "a3", "a2"), ["a3"], [*UP, ("downgrade", "a3")]),
        (("rollback", "a3", "a1"), ["a3", "a2"], [*UP, ("downgrade", "a3"), ("downgrade", "a2")]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_what_was_committed_as_the_server_failed_over_is_told_once(
    pair: Pair,
    history: MakeHistory,
    asked: tuple[str, str, str],
    applied: list[str],
    kept: list[tuple[str, str]],
) -> None:
    """Nobody was told of the commit: the new writer's books say what was done, and by whom."""
    action, start, target = asked
    ini = history(dict.fromkeys(("a1", "a2", "a3"), "pass"))
    pair.world.call(pair.world.request(target=start), ini=ini)
    more = {} if action == "migrate" else {"from_revision": start}
    with held(pair.world, BOOKS):
        call = pair.world.begin(
            pair.world.request(action, target, **more),
            ini=ini,
            seconds=SECONDS,
            variables=PATIENT,
        )
        wait_for_waiter(pair.world)
        pair.hold_answers()
    pair.wait_for_commit()
    pair.fail_over()
    answer = call.answer()

    assert (answer.outcome, answer.body["final_revision"]) == ("APPLIED", target), answer
    assert answer.body["applied_migrations"] == applied
    assert answer.body["previous_revision"] == start
    assert answer.body["warnings"] == ["its server failed over: the run went on at the new writer"]
    assert "unknown" not in answer.body
    assert pair.world.history() == kept


def test_adopting_goes_on_at_the_new_writer(pair: Pair) -> None:
    """Every login has the password of its secret in the end, and nothing is adopted twice."""
    pair.world.migrate("002")
    pair.world.query(
        "CREATE TABLE public.alembic_version AS TABLE day2.alembic_version;"
        f"ALTER TABLE public.alembic_version OWNER TO {pair.writer.master};"
        "DROP SCHEMA day2 CASCADE"
    )
    with held(pair.world, "ALTER ROLE analytics_user CONNECTION LIMIT 7"):
        call = pair.world.begin(
            pair.world.request("adopt", "002", from_revision="base"),
            seconds=SECONDS,
            variables=PATIENT,
        )
        wait_for_waiter(pair.world)
        pair.catch_up()
        pair.fail_over()
    answer = call.answer()

    assert (answer.outcome, answer.body["final_revision"]) == ("APPLIED", "002"), answer
    assert answer.body["applied_migrations"] == ["001", "002"]
    assert pair.world.history() == [("adopt", "001"), ("adopt", "002")]
    for login in ("app_user", "analytics_user"):
        assert pair.world.who_logs_in(login) == login


def test_what_is_not_known_of_a_stamp_is_not_claimed(world: World, history: MakeHistory) -> None:
    """Its session was ended at the same server: that is somebody's will, and not gone on from."""
    ini = history(dict.fromkeys(("a1", "a2"), "pass"))
    world.call(world.request(target="a1"), ini=ini)
    with held(world, BOOKS) as holder:
        asked = world.request("stamp", "a2", from_revision="a1")
        call = world.begin(asked, ini=ini, seconds=SECONDS, variables=PATIENT)
        wait_for_waiter(world)
        query(holder, f"SELECT pg_terminate_backend(pid) FROM ({WAITERS}) AS one")
        answer = call.answer()

    assert (answer.outcome, answer.body["final_revision"]) == ("NOT_READY", None), answer
    assert answer.body["unknown"] == "the connection broke as it was recorded"
    assert "see its status, and send the request again" in answer.body["message"]
    assert world.history() == [("upgrade", "a1")]


def test_a_server_that_turns_to_recovery_inside_a_revision_is_no_fault_of_it(
    pair: Pair, history: MakeHistory
) -> None:
    """Refused by 25006 on a session that lives on: the writer says what is applied."""
    site = Site(pair.writer, pair.world.ca_file)
    revisions = Revisions(history({"a1": MAKE.format("one"), "a2": MAKE.format("two")}))
    assert site.run(target="a1", revisions=revisions).outcome == "APPLIED"
    pair.catch_up()
    run = Run(
        request=site.request(),
        cloud=site.cloud,
        revisions=revisions,
        settings=site.settings,
        budget=Budget.of(20),
        request_id="moved",
    )
    place = locate(run.request, site.cloud, site.settings)
    with closing(Site(pair.reader, pair.world.ca_file).connect_as_runner()) as session:
        assert take_lock(session)
        with pytest.raises(NotReady, match=r"a2 failed: .*25006.*run the same request again"):
            apply(run, place, session, Plan("a1", "a2", ("a2",)), last_row=1)

    assert (run.report.final_revision, run.report.applied) == ("a1", [])
    assert session.closed


# Clusters that have no writer


@pytest.mark.parametrize("is_event", [True, False])
def test_the_copy_of_a_global_cluster_is_left_alone(pair: Pair, *, is_event: bool) -> None:
    """Its endpoint leads to a server in recovery, or to none; no writer will ever come."""
    pair.endpoint.lead_to(pair.reader.port)
    arn = pair.world.declare_cluster()
    pair.world.aws.secondaries.append(arn)

    request = event("cluster_started") if is_event else pair.world.request()
    answer = pair.world.call(request, seconds=SECONDS)

    assert answer.outcome == ("IGNORED" if is_event else "REJECTED"), answer
    assert answer.body.get("reason") == "read-only" or "(read-only)" in answer.body["message"]
    assert pair.world.history() == []


@pytest.mark.parametrize("name", ["cluster_created", "instance_created"])
def test_a_cluster_that_has_no_writer_yet_is_waited_for(world: World, name: str) -> None:
    """Its created event may come first of all: it waits in the queue, as its member's does."""
    world.declare_cluster(DBClusterMembers=[])
    asked = event(name)
    if name == "instance_created":
        asked["detail"]["SourceIdentifier"] = "orders-1"

    answer = world.call(asked, seconds=SHORT_SECONDS)

    assert (answer.outcome, answer.error) == ("INCOMPLETE", None), answer
    assert "orders has no instance that writes yet (no-writer)" in answer.body["message"]
    world.declare_instance()
    world.declare_cluster()
    done = world.call(world.come_again())
    assert (done.outcome, done.body["instance"]) == ("APPLIED", INSTANCE), done


def test_a_writer_that_is_being_made_is_waited_for(world: World) -> None:
    """RDS names the instance before it answers, and takes as long as for any other."""
    with silence() as nowhere:
        world.declare_cluster(Port=nowhere.port)
        world.aws.instances["orders-1"]["DBInstanceStatus"] = "creating"

        answer = world.call(event("cluster_created"), seconds=SHORT_SECONDS)

    assert (answer.outcome, answer.error) == ("INCOMPLETE", None), answer
    assert "orders-1 is creating" in answer.body["message"]
    until = datetime.fromisoformat(answer.body["message"].rpartition("until ")[2])
    assert until - datetime.now(UTC) > timedelta(hours=1.9)


@contextmanager
def silence() -> Iterator[Proxy]:
    """Yield an endpoint at which nobody answers."""
    with Proxy(1) as nowhere:
        yield nowhere


def test_a_cluster_is_migrated_by_its_members_event(world: World) -> None:
    """To what is declared for the cluster, whose state is kept by its own name."""
    world.declare_cluster()
    world.declare("002")
    world.declare("004", instance="orders-1")
    asked = event("instance_created")
    asked["detail"]["SourceIdentifier"] = "orders-1"

    answer = world.call(asked)

    assert (answer.outcome, answer.body["final_revision"]) == ("APPLIED", "002"), answer
    assert answer.body["instance"] == INSTANCE
    assert "/day2/orders/observed-state" in world.aws.parameters
    assert "/day2/orders-1/observed-state" not in world.aws.parameters
    assert world.login_secret("app_user")["dbClusterIdentifier"] == INSTANCE


def test_a_failing_cluster_that_is_woken_by_its_member_keeps_its_state(world: World) -> None:
    """Before its secret was read, too: the sweep has to know."""
    world.declare_cluster(TagList=[{"Key": "day2", "Value": "enabled"}])
    asked = event("instance_created")
    asked["detail"]["SourceIdentifier"] = "orders-1"

    answer = world.call(asked, seconds=SHORT_SECONDS)

    assert answer.outcome == "NOT_FOUND", answer
    assert "cluster-ORDERS" in world.aws.parameters["/day2/orders/observed-state"][1]


def test_of_two_by_one_name_neither_is_touched(world: World) -> None:
    """Whoever asks is told both."""
    instance = world.aws.instances[INSTANCE]
    world.declare_cluster()
    world.aws.instances[INSTANCE] = instance

    for asked in (world.request(), event("parameter_updated"), event("cluster_created")):
        answer = world.call(asked, seconds=SHORT_SECONDS)
        told = answer.body.get("message") or (answer.error and answer.error.text)
        assert answer.outcome == "REJECTED", answer
        assert f"db:{INSTANCE}" in str(told)
        assert f"cluster:{INSTANCE}" in str(told)
    assert world.history() == []
    assert [name for name in world.aws.parameters if "observed" in name] == []


@pytest.mark.parametrize("action", ["status", "migrate"])
def test_a_cluster_that_sleeps_is_woken_and_waited_for(world: World, action: str) -> None:
    """By whoever asks, also for what is answered at once elsewhere."""
    scaling = {"MinCapacity": "0", "MaxCapacity": "4"}
    with silence() as endpoint:
        world.declare_cluster(Port=endpoint.port, ServerlessV2ScalingConfiguration=scaling)
        call = world.begin(world.request(action), seconds=SECONDS)
        call.wait_for_log("not ready yet, trying again")
        endpoint.lead_to(world.server.port)
        answer = call.answer()

    assert answer.outcome == ("STATUS" if action == "status" else "APPLIED"), answer
