"""A sweep of many instances: requested on the bus in tens, and carried on where time ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.local.local_aws import LocalAws
from tests.equipment.local_aws import Bus
from tests.operating.fleet import Fleet, fleet

COUNT = 12


@pytest.fixture(scope="module")
def made(local_aws: LocalAws, deployed: dict[str, str]) -> Iterator[Fleet]:
    """Make a dozen instances."""
    assert deployed
    with fleet(local_aws, COUNT) as it:
        it.declare("004")
        yield it


def test_whoever_is_behind_is_requested_and_nobody_else(
    made: Fleet, bus: Callable[..., Bus]
) -> None:
    """Twelve make two batches; at their target they are left alone; a full sweep asks for all."""
    requests = bus({"source": ["day2"], "detail-type": ["Migration Requested"]})

    first = made.sweep().response["body"]
    heard: dict[str, Any] = {}
    while len(heard) < COUNT:
        # Whoever waits too long for a busy bus asks again: it may deliver an event twice.
        detail = requests.next()["detail"]
        heard[detail["instance"]] = detail
    made.observe(dict.fromkeys(made.names, "004") | {"fleet-007": "003"})
    second = made.sweep().response["body"]
    full = made.sweep(full=True).response["body"]

    assert tuple(first["requested"]) == made.names
    assert heard == {name: {"instance": name, "action": "migrate"} for name in made.names}
    assert second["requested"] == ["fleet-007"]
    assert tuple(full["requested"]) == made.names


def test_a_sweep_whose_time_ends_is_carried_on(made: Fleet, bus: Callable[..., Bus]) -> None:
    """With time for one instance only, each link requests the next, and the last one ends it."""
    made.observe(dict.fromkeys(made.names, "004"))
    links = bus({"source": ["day2"], "detail-type": ["Sweep Requested"]})
    client, events = made.aws.client("lambda"), made.aws.client("events")
    # Less than the margin and half a slice (10 + 15 s): nothing is left after the first.
    client.update_function_configuration(FunctionName="day2-dispatcher", Timeout=24)
    client.get_waiter("function_updated_v2").wait(
        FunctionName="day2-dispatcher", WaiterConfig={"Delay": 1}
    )
    try:
        events.enable_rule(Name="day2-requests")
        body = made.sweep(after="fleet-007").response["body"]
        heard = [links.next()["detail"]["after"] for _ in range(3)]
    finally:
        events.disable_rule(Name="day2-requests")
        client.update_function_configuration(FunctionName="day2-dispatcher", Timeout=900)
        client.get_waiter("function_updated_v2").wait(
            FunctionName="day2-dispatcher", WaiterConfig={"Delay": 1}
        )

    assert body["requested"] == []
    assert heard == ["fleet-008", "fleet-009", "fleet-010"]
