"""What outsiders read and write has a schema, and every outcome keeps to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest

from core.aws.account import Aws
from core.decisions.observed import observed_state
from core.errors import (
    AccessDenied,
    BehindCurrent,
    DatabaseAhead,
    LockBusy,
    MigrationError,
    NoSuchInstance,
    NotFound,
    NotReady,
    Rejected,
    RevisionFailed,
    UntrustedServer,
)
from core.model import (
    Action,
    ManagedDatabase,
    ObservedState,
    Parameters,
    Report,
    Request,
    Result,
    TargetSource,
    Trigger,
)
from core.outcome import Outcome
from core.settings import Settings
from handlers.reporting import report_run
from handlers.requests import is_event
from handlers.responses import render
from tests.operating.story import ROOT, samples


def validator(name: str) -> jsonschema.protocols.Validator:
    """Return the validator of a schema in ``events/schema``, itself checked."""
    schema = json.loads((ROOT / "events" / "schema" / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


ERRORS: dict[Outcome, MigrationError] = {
    error.outcome: error
    for error in (
        Rejected("no"),
        AccessDenied("no"),
        NotFound("no"),
        BehindCurrent("001", "003"),
        DatabaseAhead("no"),
        LockBusy("no"),
        RevisionFailed("no", revision="003"),
        UntrustedServer("no"),
        NotReady("no"),
    )
}
TOLD = [Outcome.APPLIED, Outcome.UP_TO_DATE, *ERRORS]


def answer(outcome: Outcome, report: Report) -> Result | MigrationError:
    """Return the answer of a run that ended with *outcome*."""
    if outcome not in ERRORS:
        return Result(outcome, "done", report)
    ERRORS[outcome].report = report
    return ERRORS[outcome]


def full_report() -> Report:
    """Return what is known of a run that got far."""
    return Report(
        instance="orders",
        database="shop",
        resource_id="db-ORDERS",
        previous_revision="001",
        final_revision="002",
        target_revision="head",
        target_source=TargetSource.FLEET,
        applied=["002"],
        pending=["003", "004"],
    )


@dataclass
class Hearing(Aws):
    """AWS that remembers what it is told; a busy Parameter Store, where wanted."""

    is_busy: bool = False
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    states: list[ObservedState] = field(default_factory=list)
    last: ObservedState | None = None

    def instance(self, identifier: str) -> ManagedDatabase:
        """Return an instance that is there."""
        return ManagedDatabase(identifier, "arn", "db-ORDERS", "postgres", "available")

    def cluster(self, identifier: str) -> ManagedDatabase:
        """Return none."""
        raise NoSuchInstance(identifier)

    def parameters(self, instance: str) -> Parameters:
        """Return the last state of *instance*."""
        assert instance == "orders"
        return Parameters(None, self.last)

    def write_observed(self, instance: str, state: ObservedState) -> None:
        """Remember it, where not busy."""
        assert instance == "orders"
        if self.is_busy:
            raise NotReady("ssm:PutParameter is busy (ThrottlingException): try again later")
        self.states.append(state)

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None:
        """Remember them."""
        self.events += [(detail_type, detail) for detail in details]


def tell(aws: Aws, ended: Result | MigrationError, *, trigger: Trigger = Trigger.PARAMETER) -> bool:
    """Report a run that *ended* so; return whether all was told."""
    request = Request(trigger, instance="orders")
    body = render(ended, duration_ms=12, request_id="7bf73129-1428-4cd3-a780-95db273d1602")["body"]
    return report_run(request, ended, body, aws, Settings())


@pytest.mark.parametrize("report", [Report(), full_report()], ids=["empty", "full"])
@pytest.mark.parametrize("outcome", TOLD)
def test_the_result_event_of_every_outcome_keeps_to_its_schema(
    outcome: Outcome, report: Report
) -> None:
    """Whether the run failed at once or got far."""
    aws = Hearing()

    is_told = tell(aws, answer(outcome, report))

    assert is_told
    ((detail_type, detail),) = aws.events
    assert detail_type == ("Migration Succeeded" if outcome.success else "Migration Failed")
    validator("result").validate(json.loads(json.dumps(detail)))


def test_the_schema_knows_all_outcomes_that_are_told() -> None:
    """A new outcome or action needs its word in the schema."""
    schema = validator("result").schema
    quiet = {"STATUS", "PLANNED", "CHECKED", "IGNORED", "REQUESTED", "BLOCKED"}
    reading = {"status", "plan", "check"}

    assert set(schema["properties"]["outcome"]["enum"]) == set(map(str, Outcome)) - quiet
    assert set(schema["properties"]["action"]["enum"]) == set(map(str, Action)) - reading
    assert set(schema["properties"]["trigger"]["enum"]) == set(map(str, Trigger))
    sources = set(schema["properties"]["target_source"]["enum"])
    assert sources == {*map(str, TargetSource), None}


@pytest.mark.parametrize("outcome", [*TOLD, Outcome.IGNORED, Outcome.INCOMPLETE])
def test_the_observed_state_of_every_outcome_keeps_to_its_schema(outcome: Outcome) -> None:
    """As the parameter holds it, read back as the same."""
    aws = Hearing()
    tell(aws, answer(outcome, full_report()))
    (state,) = aws.states

    validator("observed-state").validate(json.loads(written(state)))


def written(state: ObservedState) -> str:
    """Return the value that the real AWS would be given."""
    values: list[str] = []

    class Client:
        def put_parameter(self, **request: str) -> None:
            values.append(request["Value"])

    aws = Aws(Settings())
    aws._clients["ssm"] = Client()
    aws.write_observed("orders", state)
    return values[0]


def test_a_state_that_cannot_be_kept_holds_no_result_back() -> None:
    """What cannot be kept is counted, and who listens on the bus is told all the same."""
    aws = Hearing(is_busy=True)

    is_told = tell(aws, answer(Outcome.APPLIED, full_report()))

    assert not is_told
    assert [kind for kind, _ in aws.events] == ["Migration Succeeded"]


def test_a_failure_before_the_instance_is_found_is_kept_for_the_sweep() -> None:
    """Without its state the sweep would knock at every turn; a direct caller was just answered."""
    aws, heard = Hearing(), Hearing()

    tell(aws, answer(Outcome.NOT_FOUND, Report(instance="orders")))
    tell(heard, answer(Outcome.NOT_FOUND, Report(instance="orders")), trigger=Trigger.DIRECT)

    assert [(one.dbi_resource_id, one.outcome) for one in aws.states] == [
        ("db-ORDERS", "NOT_FOUND")
    ]
    assert heard.states == []


def test_retries_of_one_event_are_one_attempt() -> None:
    """Lambda tries three times in minutes; the sweep's patience goes by the hour."""
    at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    failed = answer(Outcome.ACCESS_DENIED, full_report())

    def state(last: ObservedState | None, request_id: str, minutes: int) -> ObservedState | None:
        now = at + timedelta(minutes=minutes)
        return observed_state(failed, last, build="b", request_id=request_id, at=now)

    first = state(None, "event-1", 0)
    assert first is not None
    assert first.attempts == 1
    assert state(first, "event-1", 1) is None
    again = state(first, "event-2", 60)
    assert again is not None
    assert (again.attempts, again.at) == (2, at + timedelta(hours=1))


@pytest.mark.parametrize("name", samples())
def test_the_schema_of_requests_agrees_with_the_parser(name: str) -> None:
    """Each direct sample is as right or wrong by the schema as it is by name."""
    event = samples()[name]
    if is_event(event):
        assert not validator("request").is_valid(event)
    else:
        assert validator("request").is_valid(event) == name.startswith("direct_")


def test_the_schema_of_requests_knows_all_actions() -> None:
    """A new action needs its word in the schema."""
    properties = validator("request").schema["properties"]

    assert set(properties["action"]["enum"]) == set(map(str, Action))
