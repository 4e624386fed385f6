"""A run is written down before it begins: one that kills it is found, and the bus is held to it."""

from __future__ import annotations

import pytest

from core.errors import Rejected, RunFailed
from core.model import Declared, Parameters, Request, TargetSource, Trigger
from core.outcome import Outcome
from core.settings import Settings
from tests.equipment.site import INSTANCE, REQUEST_ID, Site

EVENT = Request(Trigger.PARAMETER, instance=INSTANCE)
DIED = (
    "INSERT INTO day2.run (request_id, trigger, target, revision, build)"
    " VALUES (%s, %s, %s, %s, %s)"
)
BUILD = Settings().build


def declare(site: Site, target: str) -> None:
    """Let the instance's parameter declare *target*."""
    site.cloud.declared[INSTANCE] = Parameters(
        Declared(target, TargetSource.PARAMETER, f"/day2/{INSTANCE}/target-revision")
    )


def die(site: Site, revision: str, *, times: int, build: str = BUILD) -> None:
    """Leave what *times* runs leave that were killed in *revision*."""
    for _ in range(times):
        site.query(DIED, ("killed", "parameter", "head", revision, build))


def test_a_revision_that_kills_its_runs_is_given_up(site: Site) -> None:
    """Nobody answered for them, so the next one does; a person may try once more."""
    site.run(target="001")
    declare(site, "004")
    die(site, "002", times=3)

    with pytest.raises(RunFailed, match="revision 002 was begun 3 times since"):
        site.run(request=EVENT)

    assert site.run(target="002").outcome is Outcome.APPLIED
    assert site.run(request=EVENT).outcome is Outcome.APPLIED


@pytest.mark.parametrize(
    ("revision", "times", "build"), [("002", 2, BUILD), ("001", 5, BUILD), ("002", 5, "another")]
)
def test_what_is_no_reason_to_give_up(site: Site, revision: str, times: int, build: str) -> None:
    """Fewer runs, runs at another revision, and runs of another build say nothing of this one."""
    site.run(target="001")
    declare(site, "004")
    die(site, revision, times=times, build=build)

    assert site.run(request=EVENT).outcome is Outcome.APPLIED


def test_an_end_makes_a_new_beginning(site: Site) -> None:
    """A failure that was answered shows that the revision can be left."""
    site.run(target="001")
    declare(site, "004")
    die(site, "002", times=3)
    site.query(
        "INSERT INTO day2.run (request_id, trigger, revision, build, ended_at, outcome)"
        " VALUES ('answered', 'parameter', '002', %s, now(), 'FAILED')",
        (BUILD,),
    )

    assert site.run(request=EVENT).outcome is Outcome.APPLIED


def on_the_bus(target: str, continues: str | None = None) -> Request:
    """Return what somebody put on the bus."""
    return Request(Trigger.REQUEST, instance=INSTANCE, target=target, continues=continues)


@pytest.mark.parametrize("continues", [None, "nobody's", REQUEST_ID])
def test_the_bus_goes_no_further_than_was_declared(site: Site, continues: str | None) -> None:
    """Whoever may put events is not whoever may declare a target."""
    declare(site, "002")
    site.run(request=EVENT)

    with pytest.raises(Rejected, match="003 is newer than 002, the declared target of orders"):
        site.run(request=on_the_bus("003", continues))

    assert site.query("SELECT version_num FROM day2.alembic_version") == [("002",)]


def test_the_bus_may_ask_for_less(site: Site) -> None:
    """What is declared may be reached in steps."""
    declare(site, "003")

    assert site.run(request=on_the_bus("002")).outcome is Outcome.APPLIED
    assert site.run(request=on_the_bus("003")).outcome is Outcome.APPLIED


def test_the_rest_of_a_direct_run_goes_on(site: Site) -> None:
    """A person asked for it, and the database knows; link after link of the chain."""
    declare(site, "001")
    slow = site.settings._replace(minimum_slice_seconds=120)
    first = site.run(target="004", settings=slow)
    (_, detail) = site.cloud.events[-1]
    rest = on_the_bus(str(detail["target_revision"]), str(detail["continues"]))

    second = site.run(request=rest, settings=slow, request_id="second")
    third = site.run(request=rest._replace(continues="second"), request_id="third")

    assert (first.outcome, second.outcome) == (Outcome.INCOMPLETE, Outcome.INCOMPLETE)
    assert (third.outcome, third.report.final_revision) == (Outcome.APPLIED, "004")


def test_the_rest_of_one_target_is_no_way_to_another(site: Site) -> None:
    """Who reads a request on the bus cannot use its id for more."""
    declare(site, "001")
    slow = site.settings._replace(minimum_slice_seconds=120)
    site.run(target="003", settings=slow)

    with pytest.raises(Rejected):
        site.run(request=on_the_bus("004", REQUEST_ID))
