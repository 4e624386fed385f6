"""1,000 events that nobody should have sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.outcome import Outcome
from tests.chaos.contract import BODY, NAMES
from tests.equipment.world import INSTANCE, ROOT, World

SAMPLES = [json.loads(file.read_text()) for file in sorted((ROOT / "events").glob("*.json"))]
OUTCOMES = {outcome.value for outcome in Outcome}
EVENTS, PARAMETERS, BATCHES = 47, 3, 20

NASTY = st.sampled_from(
    [
        "", " ", "head", "heads", "base", "+1", "-1", "m1", "m", "m1@head", "M1", "m9", "\0", "%s",
        "' OR 1=1 --", "x" * 5000, "\u2028", "head\n", "orders", "ORDERS", "_fleet", "..",
        "arn:aws:rds:us-east-1:123456789012:db:orders", "orders-master", "migrate", "rollback",
        "/day2/orders/target-revision", "/day2/_fleet/target-revision", "day2", "aws.rds",
        "RDS-EVENT-0005", "Migration Requested", "2026-01-01T00:00:00", "9999-12-31T23:59:59+00:00",
    ]
)  # fmt: skip
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | NASTY
)
KEYS = NASTY | st.text(max_size=10) | st.sampled_from(
    ["instance", "secret_name", "action", "target_revision", "from_revision", "raise_on_failure",
     "detail", "detail-type", "source", "full", "after", "continues", "Records", "body",
     "operation", "name", "EventID", "SourceIdentifier", "SourceType", "exception"]
)  # fmt: skip
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """Return a sample event with up to three of its places changed, lost or added."""
    event = json.loads(json.dumps(draw(st.sampled_from(SAMPLES))))
    for _ in range(draw(st.integers(1, 3))):
        place = event
        while isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place)))
            if isinstance(place[key], dict) and draw(st.booleans()):
                place = place[key]
                continue
            match draw(st.sampled_from(["change", "lose", "add"])):
                case "change":
                    place[key] = draw(JSON)
                case "lose":
                    del place[key]
                case "add":
                    place[draw(KEYS)] = draw(JSON)
            break
    return event


def test_thousand_events_that_nobody_should_send(
    world: World, history: Callable[..., Path]
) -> None:
    """Malformed, mutated and random events and parameters: an answer each, and no harm done."""
    ini = history({name: BODY.format(name=name) for name in NAMES})
    world.call(ini=ini)
    before = (world.catalogue(), world.history(), world.current())
    seen = 0

    @settings(
        max_examples=BATCHES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        events=st.lists(mutated() | JSON, min_size=EVENTS, max_size=EVENTS),
        values=st.lists(
            st.tuples(st.sampled_from(["String", "String", "StringList"]), NASTY | SCALAR.map(str)),
            min_size=PARAMETERS,
            max_size=PARAMETERS,
        ),
    )
    def send(events: list[Any], values: list[tuple[str, str]]) -> None:
        nonlocal seen
        for number, (kind, value) in enumerate(values):
            name = f"{INSTANCE}-{number}"
            world.aws.instances[name] = world.aws.instances[INSTANCE] | {
                "DBInstanceIdentifier": name
            }
            world.declare(value, instance=name, kind=kind)
            events.append({"instance": name})
        answers = world.container.call_each(events, ini=ini, seconds=120.0)
        for event, answer in zip(events, answers, strict=True):
            assert answer.outcome in OUTCOMES, (event, answer.response, answer.error)
            assert "unexpected" not in answer.body.get("message", ""), (event, answer.response)
        seen += len(answers)

    send()

    assert seen >= (EVENTS + PARAMETERS) * BATCHES
    assert (world.catalogue(), world.history(), world.current()) == before
    world.wait_for_lock(held=False)
