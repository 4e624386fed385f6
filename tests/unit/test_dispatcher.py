"""The one entry point: direct requests are answered, events raise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from core.budget import Budget
from core.errors import AccessDenied, NoSuchInstance, Rejected, RunFailed
from core.model import ManagedDatabase, Parameters
from core.settings import Settings
from handlers.application import Application
from handlers.dispatcher import respond
from handlers.reporting import metrics
from handlers.requests import asks_to_raise, is_event
from tests.equipment.fakes import FakeRegister
from tests.unit.test_requests import IGNORED, QUEUE, REJECTED

SETTINGS = Settings(waiting_queue_arn=QUEUE, waiting_queue_url="https://sqs.example/day2-waiting")


@dataclass(frozen=True)
class LambdaContext:
    """What Lambda hands the handler beside the event."""

    function_name: str = "day2-dispatcher"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:day2-dispatcher"
    aws_request_id: str = "7f2c"

    def get_remaining_time_in_millis(self) -> int:
        """Return the time left: five minutes."""
        return 300_000


@dataclass
class FakeAws(FakeRegister):
    """AWS without an instance, or one that fails in the way of *trouble*."""

    trouble: Exception = field(default_factory=lambda: NoSuchInstance("instance orders is gone"))
    fleet: Sequence[ManagedDatabase] = ()
    events: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)
    deployed: frozenset[str] = frozenset()

    def within(self, _budget: Budget) -> Self:
        """Return the same: nothing here is ever busy."""
        return self

    def instance(self, identifier: str) -> ManagedDatabase:
        """Fail: nobody gets past this."""
        assert identifier == "orders"
        raise self.trouble

    def databases(self) -> Sequence[ManagedDatabase]:
        """Return the fleet."""
        return self.fleet

    def all_parameters(self) -> dict[str, Parameters]:
        """Return none."""
        return {}

    def login_secrets(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield none."""
        yield from ()

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None:
        """Remember the events."""
        self.events += [(detail_type, detail) for detail in details]


@pytest.fixture
def aws() -> FakeAws:
    """Return the AWS that the handler meets."""
    return FakeAws()


Handle = Callable[[object], dict[str, Any]]


@pytest.fixture
def handle(aws: FakeAws) -> Handle:
    """Return the handler on this AWS; what it answers is JSON, as Lambda demands."""
    made = Application(SETTINGS)
    vars(made)["aws"] = aws

    @metrics.log_metrics
    def handler(event: object, context: Any) -> dict[str, Any]:
        return respond(event, context, lambda: made)

    return lambda event: dict(json.loads(json.dumps(handler(event, LambdaContext()))))


def test_a_wrong_request_is_answered_and_a_wrong_event_raises(
    load_event: Callable[[str], Any], handle: Handle, subtests: pytest.Subtests
) -> None:
    """A caller reads the 400; Lambda keeps the event for a person."""
    for name, expected in REJECTED.items():
        with subtests.test(name):
            event = load_event(name)

            if is_event(event) or asks_to_raise(event):
                with pytest.raises(Rejected) as caught:
                    handle(event)
                message = str(caught.value)
            else:
                response = handle(event)
                body = response["body"]
                assert response == {"statusCode": 400, "body": body}
                assert (body["outcome"], body["success"]) == ("REJECTED", False)
                message = body["message"]

            assert message == expected


@pytest.mark.parametrize("name", IGNORED)
def test_an_ignored_event_is_a_success_with_its_reason(
    name: str, load_event: Callable[[str], Any], aws: FakeAws, handle: Handle
) -> None:
    """Lambda does not try again what was left alone on purpose."""
    response = handle(load_event(name))

    body = response["body"]
    assert (response["statusCode"], body["outcome"]) == (200, "IGNORED")
    assert (body["reason"], body["message"]) == (IGNORED[name].reason, IGNORED[name].message)
    assert aws.events == []


def test_an_event_for_an_instance_that_is_gone_is_ignored(
    load_event: Callable[[str], Any], handle: Handle
) -> None:
    """An event may be late; its instance's own created event would come."""
    body = handle(load_event("parameter_updated"))["body"]

    assert (body["outcome"], body["reason"]) == ("IGNORED", "no-such-instance")


def test_a_direct_request_for_an_instance_that_is_gone_is_answered(
    load_event: Callable[[str], Any], aws: FakeAws, handle: Handle
) -> None:
    """The caller named it, so it is told, and so is whoever listens on the bus."""
    response = handle(load_event("direct_instance"))

    assert (response["statusCode"], response["body"]["outcome"]) == (404, "NOT_FOUND")
    assert [(kind, detail["outcome"]) for kind, detail in aws.events] == [
        ("Migration Failed", "NOT_FOUND")
    ]


def test_a_status_is_no_result(
    load_event: Callable[[str], Any], aws: FakeAws, handle: Handle
) -> None:
    """Who only looks makes no noise on the bus, even where looking fails."""
    response = handle(load_event("direct_instance_status"))

    assert (response["statusCode"], aws.events) == (404, [])


@pytest.mark.parametrize("name", ["instance_created", "requested", "direct_raise_on_failure"])
def test_a_failure_raises_where_nobody_reads_the_answer(
    name: str, load_event: Callable[[str], Any], aws: FakeAws, handle: Handle
) -> None:
    """An event's failure, and that of a request that asks for it, reaches Lambda's retry."""
    aws.trouble = AccessDenied("rds:DescribeDBInstances is denied")

    with pytest.raises(AccessDenied) as caught:
        handle(load_event(name))

    assert str(caught.value) == "rds:DescribeDBInstances is denied"


def test_a_wrong_request_that_asks_for_exceptions_raises(handle: Handle) -> None:
    """An asynchronous caller's typing error is not lost in an answer that nobody reads."""
    with pytest.raises(Rejected):
        handle({"instance": "orders", "target_revision": "+1", "raise_on_failure": True})


def test_an_unexpected_error_is_a_failure_that_quotes_nothing(
    load_event: Callable[[str], Any], aws: FakeAws, handle: Handle
) -> None:
    """What nobody foresaw might hold a secret: its text goes to the log, not to the caller."""
    aws.trouble = ZeroDivisionError("s3cr3t")

    body = handle(load_event("direct_instance"))["body"]
    with pytest.raises(RunFailed) as caught:
        handle(load_event("instance_created"))

    message = "unexpected ZeroDivisionError: see the log of this request"
    assert (body["outcome"], body["message"], str(caught.value)) == ("FAILED", message, message)


@pytest.mark.parametrize(
    "name", ["sweep_scheduled", "sweep_scheduled_full", "fleet_parameter_updated"]
)
def test_a_fleets_request_puts_one_request_an_instance_on_the_bus(
    name: str,
    load_event: Callable[[str], Any],
    aws: FakeAws,
    orders: ManagedDatabase,
    handle: Handle,
) -> None:
    """Fan-out is one invocation for each database."""
    aws.fleet = [orders, orders._replace(identifier="untagged", tags={})]

    body = handle(load_event(name))["body"]

    assert (body["outcome"], body["requested"]) == ("REQUESTED", ["orders"])
    assert body["skipped"] == {"not-opted-in": 1}
    assert aws.events == [("Migration Requested", {"instance": "orders", "action": "migrate"})]
