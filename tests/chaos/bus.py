"""EventBridge and Lambda's asynchronous calls in small: deliver, try again, keep what failed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.equipment.container import Answer
from tests.equipment.world import World

# Lambda tries an asynchronous call twice more; ours would never end if the chain had no bound.
TRIES = 3
MOST_CALLS = 20
WAKE_US = ("Migration Requested", "Sweep Requested")


@dataclass
class Delivered:
    """
    What came of an event and of all that it caused.

    Attributes:
        failed: What Lambda would have put into the on-failure queue.
    """

    answers: list[Answer] = field(default_factory=list)
    failed: list[Any] = field(default_factory=list)


def deliver(
    world: World, event: Any, *, seconds: float = 60.0, ini: Path | None = None
) -> Delivered:
    """Deliver *event*, and then what the function puts on the bus, until it is quiet."""
    delivered = Delivered()
    waiting = [event]
    seen = len(world.aws.events)
    while waiting:
        assert len(delivered.answers) < MOST_CALLS, "the chain has no end"
        now = waiting.pop(0)
        for number in range(TRIES):
            answer = world.call(now, seconds=seconds, ini=ini, request_id=f"event-{id(now)}")
            delivered.answers.append(answer)
            if answer.error is None:
                break
            if number == TRIES - 1:
                delivered.failed.append((now, answer.error))
        waiting += [
            {
                "detail-type": entry["DetailType"],
                "source": entry["Source"],
                "detail": json.loads(entry["Detail"]),
            }
            for entry in world.aws.events[seen:]
            if entry["DetailType"] in WAKE_US
        ]
        seen = len(world.aws.events)
    return delivered
