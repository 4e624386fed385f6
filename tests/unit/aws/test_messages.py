"""Events on the bus: in batches, and what it refuses put again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.aws.account import Aws
from core.errors import NotReady, RunFailed
from tests.unit.aws.answers import Stub, patient


def entries(*numbers: int) -> dict[str, list[dict[str, str]]]:
    """Return a batch of requests as PutEvents takes it."""
    return {
        "Entries": [
            {
                "Source": "day2",
                "DetailType": "Migration Requested",
                "Detail": json.dumps({"instance": f"db-{number}"}),
            }
            for number in numbers
        ]
    }


def answer(*codes: str | None) -> dict[str, Any]:
    """Return what PutEvents answers, by each entry's error code."""
    return {
        "FailedEntryCount": sum(code is not None for code in codes),
        "Entries": [{"ErrorCode": code} if code else {"EventId": "1"} for code in codes],
    }


def details(count: int) -> list[dict[str, object]]:
    """Return that many requests."""
    return [{"instance": f"db-{number}"} for number in range(count)]


def test_events_are_put_in_batches_of_ten(aws: Aws, stub: Stub) -> None:
    """EventBridge takes ten entries a call."""
    stub("events").add_response("put_events", answer(*[None] * 10), entries(*range(10)))
    stub("events").add_response("put_events", answer(None, None), entries(10, 11))

    aws.put_events("Migration Requested", details(12))


def test_no_events_are_no_call(aws: Aws, stub: Stub) -> None:
    """A quiet sweep puts nothing on the bus."""
    stub("events")

    aws.put_events("Migration Requested", [])


def test_a_refused_entry_is_put_again_alone(aws: Aws, stub: Stub) -> None:
    """PutEvents does not raise: its answer counts what it refused, and only that is repeated."""
    pauses: list[float] = []
    codes = (None, "ThrottlingException", "InternalFailure")
    stub("events").add_response("put_events", answer(*codes), entries(0, 1, 2))
    stub("events").add_response("put_events", answer(None, "InternalFailure"), entries(1, 2))
    stub("events").add_response("put_events", answer(None), entries(2))

    aws.within(patient(pauses)).put_events("Migration Requested", details(3))

    assert len(pauses) == 2


def test_a_refused_entry_keeps_nobody_waiting(aws: Aws, stub: Stub) -> None:
    """What comes behind it is put first; then what was refused, with patience."""
    codes = [None] * 9 + ["InternalFailure"]
    stub("events").add_response("put_events", answer(*codes), entries(*range(10)))
    stub("events").add_response("put_events", answer(None, None), entries(10, 11))
    stub("events").add_response("put_events", answer(None), entries(9))

    aws.within(patient([])).put_events("Migration Requested", details(12))


def test_a_busy_bus_is_asked_for_as_long_as_there_is_time(aws: Aws, stub: Stub) -> None:
    """As every other service; and a request that is not on the bus is never taken for one."""
    pauses: list[float] = []
    for _ in range(100):
        stub("events").add_response("put_events", answer("ThrottlingException", "InternalFailure"))

    with pytest.raises(NotReady) as caught:
        aws.within(patient(pauses, seconds=60)).put_events("Migration Requested", details(2))

    assert str(caught.value) == "the event bus refused 2 event(s): try again later"
    assert 50 < sum(pauses) <= 60
    vars(stub("events"))["_queue"].clear()


def test_entries_refused_for_good_are_an_error(aws: Aws, stub: Stub) -> None:
    """What no patience mends is told at once, with its code."""
    stub("events").add_response("put_events", answer(None, "NotAuthorizedForSourceException"))

    with pytest.raises(RunFailed) as caught:
        aws.within(patient([])).put_events("Migration Requested", details(2))

    assert str(caught.value) == "the event bus refused 1 event(s): NotAuthorizedForSourceException"
