"""A build whose history is broken is found out before anything is touched, and time is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.bus import deliver
from tests.chaos.contract import BODY, NAMES
from tests.equipment.world import INSTANCE, World, event, write_revision

MakeHistory = Callable[..., Path]

MADE = {name: BODY.format(name=name) for name in NAMES}


@pytest.mark.parametrize(
    ("down", "body", "text"),
    [
        ("m1", "pass", "several heads"),
        ("m9", "pass", "m9"),
        (None, "pass", "several heads"),
        (("m3", "m4"), "pass", "merges"),
        ("m4", "this is no Python", "SyntaxError"),
    ],
)
def test_broken_history(
    world: World, history: MakeHistory, down: str, body: str, text: str
) -> None:
    """Several heads, a lost revision or a file that does not load: FAILED, nothing connected to."""
    ini = history(MADE)
    write_revision(ini.parent, "x1", down, body)

    answer = world.call(ini=ini)

    assert (answer.outcome, answer.error) == ("FAILED", None), answer
    assert text in answer.body["message"]
    assert "nothing was touched" in answer.body["message"]
    assert world.query("SELECT to_regnamespace('day2')") == [(None,)]
    assert world.aws.called("rds:DescribeDBInstances") == []


def test_script_that_cannot_be_loaded_fails_when_it_is_run(
    world: World, history: MakeHistory
) -> None:
    """Its error names the revision; those before it are kept, and none of them is hidden."""
    ini = history(MADE)
    file = write_revision(ini.parent, "x1", "m4", "pass")
    file.write_text("import nothing_of_the_kind\n" + file.read_text())

    answer = world.call(ini=ini)

    assert (answer.outcome, answer.body["applied_migrations"]) == ("FAILED", list(NAMES))
    assert "revision x1 failed: ModuleNotFoundError" in answer.body["message"]
    assert world.current() == "m4"


def test_revision_that_is_not_in_this_build(world: World, history: MakeHistory) -> None:
    """A database ahead of the build is DB_AHEAD, an unknown target REJECTED; nothing changes."""
    world.call(ini=history(MADE))
    older = history({name: MADE[name] for name in NAMES[:2]})

    ahead = world.call(ini=older)
    unknown = world.call(world.request(target="m7"), ini=history(MADE))

    assert (ahead.outcome, ahead.response["statusCode"]) == ("DB_AHEAD", 409)
    assert "'m4'" in ahead.body["message"]
    assert (unknown.outcome, unknown.response["statusCode"]) == ("REJECTED", 400)
    assert world.current() == "m4"


def test_every_failure_of_an_event_is_raised(world: World, history: MakeHistory) -> None:
    """What an event cannot do is raised, tried three times, and then kept for a person."""
    world.declare("m9")

    delivered = deliver(world, event("parameter_updated"), ini=history(MADE))

    assert [answer.outcome for answer in delivered.answers] == ["REJECTED"] * 3
    assert len(delivered.failed) == 1
    assert world.history() == []


def test_chain_ends_where_a_revision_needs_more_than_a_whole_call(
    world: World, history: MakeHistory
) -> None:
    """A revision that runs out of a full budget fails: the chain has no link without progress."""
    ini = history({"s1": "pass", "s2": 'op.execute("SELECT pg_sleep(30)")', "s3": "pass"})
    world.declare("s3")

    # Half of its budget, 2 s, is what a run may take here until it begins with the revision.
    delivered = deliver(world, event("requested"), ini=ini, seconds=7.0)

    assert [answer.outcome for answer in delivered.answers] == ["INCOMPLETE", *["FAILED"] * 3]
    assert len(delivered.failed) == 1
    assert world.history() == [("upgrade", "s1")]
    world.wait_for_lock(held=False)


def test_request_that_no_bus_can_carry_on(world: World, history: MakeHistory) -> None:
    """A direct request by secret alone is INCOMPLETE, and its sender is told to send it again."""
    ini = history({f"s{number}": 'op.execute("SELECT pg_sleep(1)")' for number in range(4)})
    world.declare_instance(TagList=[])
    asked = {"secret_name": "orders-master", "instance": INSTANCE, "target_revision": "head"}

    answer = world.call(asked, ini=ini, seconds=5.5)

    assert (answer.outcome, answer.response["statusCode"]) == ("INCOMPLETE", 202)
    assert "send the same request again" in answer.body["message"]
    assert world.aws.of_type("Migration Requested") == []
    assert answer.body["final_revision"] == world.current()


def test_instance_that_is_gone_stopped_or_another(world: World, history: MakeHistory) -> None:
    """Events of an instance that is gone or stopped are ignored; one made anew starts at base."""
    ini = history(MADE)
    world.declare("m4")
    assert world.call(event("instance_created"), ini=ini).outcome == "APPLIED"

    world.declare_instance(DBInstanceStatus="stopped")
    stopped = world.call(event("parameter_updated"), ini=ini)
    del world.aws.instances[INSTANCE]
    gone = world.call(event("instance_created"), ini=ini)
    observed = dict(world.aws.parameters)
    world.reset()
    world.aws.parameters.update(observed)
    world.declare_instance(DbiResourceId="db-ANOTHER")
    anew = world.call(event("sweep_scheduled"), ini=ini)
    late = world.call(event("instance_created"), ini=ini)

    assert (stopped.outcome, stopped.body["reason"]) == ("IGNORED", "stopped")
    assert (gone.outcome, gone.body["reason"]) == ("IGNORED", "no-such-instance")
    assert anew.body["requested"] == [INSTANCE]
    assert (late.outcome, late.body["applied_migrations"]) == ("APPLIED", list(NAMES))
    assert "db-ANOTHER" in world.aws.parameters[f"/day2/{INSTANCE}/observed-state"][1]


def test_target_before_its_instance(world: World) -> None:
    """A parameter that is written before its instance exists is ignored, and read when it does."""
    del world.aws.instances[INSTANCE]
    world.declare("002")

    early = deliver(world, event("parameter_created"))
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)
    waiting = world.call(event("instance_created"), seconds=6.0)
    world.declare_instance()
    carried_on = deliver(world, world.come_again())

    assert [answer.outcome for answer in early.answers] == ["IGNORED"]
    assert waiting.outcome == "INCOMPLETE"
    assert [answer.outcome for answer in carried_on.answers] == ["APPLIED"]
    assert early.failed + carried_on.failed == []
    assert world.faults_found(("001", "002")) == []
