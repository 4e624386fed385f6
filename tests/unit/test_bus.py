"""What we put on the bus is what we read from it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions import bus, later
from core.model import Action, Request, Sweep, Trigger, Waiting
from handlers.requests import Asked, original, parse

AT = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
QUEUE = "arn:aws:sqs:us-east-1:123456789012:day2-waiting"


@dataclass
class Heard:
    """The bus: each event as Lambda gets it."""

    events: list[dict[str, object]] = field(default_factory=list)

    def ask_later(
        self, event: Mapping[str, object], waiting: Mapping[str, str], *, delay_seconds: int
    ) -> None:
        """Keep the message of the queue, as Lambda hands it over."""
        assert delay_seconds > 0
        attributes = {
            name: {"stringValue": value, "dataType": "String"} for name, value in waiting.items()
        }
        message = {"body": json.dumps(event), "messageAttributes": attributes}
        source = {"eventSource": "aws:sqs", "eventSourceARN": QUEUE}
        self.events.append({"Records": [message | source]})

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None:
        """Keep the events, their details once through JSON."""
        self.events += [
            {"source": "day2", "detail-type": detail_type, "detail": json.loads(json.dumps(detail))}
            for detail in details
        ]


def requested(action: Action = Action.MIGRATE, **fields: object) -> Request:
    """Return a request that came over the bus, for ``orders``."""
    return Request(Trigger.REQUEST, action, "orders", **fields)  # type: ignore[arg-type]


WRITTEN: list[tuple[Callable[[Heard], object], list[Asked]]] = [
    (
        lambda heard: bus.request_runs(heard, ["orders", "parts"]),
        [requested(), Request(Trigger.REQUEST, instance="parts")],
    ),
    (lambda heard: bus.request_runs(heard, []), []),
    (
        lambda heard: bus.request_rest(heard, "orders", target=None, continues="7f2c"),
        [requested()],
    ),
    (
        lambda heard: bus.request_rest(heard, "orders", target="head", continues="7f2c"),
        [requested(target="head", continues="7f2c")],
    ),
    (
        lambda heard: bus.request_sweep(heard, after="orders", full=True),
        [Sweep(full=True, after="orders")],
    ),
    (lambda heard: bus.request_sweep(heard, after="orders", full=False), [Sweep(after="orders")]),
]


@pytest.mark.parametrize(("write", "expected"), WRITTEN)
def test_what_is_written_is_read_as_it_was_meant(
    write: Callable[[Heard], object], expected: list[Asked]
) -> None:
    """One module writes and another reads: neither can change alone."""
    heard = Heard()
    write(heard)

    assert [parse(event, "day2") for event in heard.events] == expected


def test_what_is_put_off_is_read_as_it_came(load_event: Callable[[str], Any]) -> None:
    """With its own trigger and id, and how it has waited."""
    heard, waiting = Heard(), Waiting(AT, AT + timedelta(hours=2), 3)
    event = load_event("instance_created")

    later.ask_later(heard, event, waiting, delay_seconds=60)

    (message,) = heard.events
    asked = parse(message, "day2", QUEUE)
    assert asked == Request(Trigger.INSTANCE, instance="orders", waiting=waiting)
    assert original(message) == event


def test_each_kind_that_is_written_is_tried_above() -> None:
    """A new kind of request has to be read as well."""
    tried = inspect.getsource(inspect.getmodule(requested))  # type: ignore[arg-type]
    kinds = [name for name, _ in inspect.getmembers(bus, inspect.isfunction) if name[0] != "_"]

    assert [name for name in kinds if f"bus.{name}(" not in tried] == []
