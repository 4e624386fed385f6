"""What is told of a run beyond its response, and what is kept for the next sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from core.actions.carry_out import PUT_OFF
from core.decisions.observed import observed_state
from core.errors import AccessDenied, LockBusy, MigrationError, NotReady, Rejected, RevisionFailed
from core.model import (
    FleetBump,
    ObservedState,
    Parameters,
    Report,
    Request,
    Result,
    Sweep,
    TargetSource,
    Trigger,
)
from core.outcome import Outcome
from core.settings import Settings
from handlers.reporting import _is_put_off, as_subject, report_run
from handlers.requests import Asked
from handlers.responses import render

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
REQUEST = Request(Trigger.PARAMETER, instance="orders")
TOPIC = "arn:aws:sns:us-east-1:123456789012:results"
LAST = ObservedState("db-ORDERS", "shop", "003", "UP_TO_DATE", "003", "build-1", AT, "earlier")


def report(previous: str | None, final: str | None, target: str | None = "003") -> Report:
    """Return the report of a run on ``orders``."""
    return Report(
        instance="orders",
        database="shop",
        resource_id="db-ORDERS",
        previous_revision=previous,
        final_revision=final,
        target_revision=target,
        target_source=TargetSource.PARAMETER,
    )


def succeeded(outcome: Outcome, *revisions: str | None, target: str | None = "003") -> Result:
    """Return a result that went from the first of *revisions* to the last."""
    return Result(outcome, "done", report(revisions[0], revisions[-1], target))


def failed(error: MigrationError, *revisions: str | None, target: str | None = "003") -> Any:
    """Return *error* of a run that went from the first of *revisions* to the last."""
    error.report = report(revisions[0], revisions[-1], target)
    return error


def broken() -> RevisionFailed:
    """Return the error of a revision that failed."""
    return RevisionFailed("revision 003 failed", revision="003")


AFTER_FAILURE = LAST._replace(revision="002", outcome="FAILED", attempts=2)

STATES: list[tuple[str, Result | MigrationError, ObservedState | None, ObservedState | None]] = [
    (
        "a first success",
        succeeded(Outcome.APPLIED, None, "003"),
        None,
        LAST._replace(outcome="APPLIED"),
    ),
    ("the same success again", succeeded(Outcome.UP_TO_DATE, "003"), LAST, None),
    (
        "up to date after applying",
        succeeded(Outcome.UP_TO_DATE, "003"),
        LAST._replace(outcome="APPLIED"),
        LAST,
    ),
    (
        "a new target",
        succeeded(Outcome.APPLIED, "003", "004", target="004"),
        LAST,
        LAST._replace(outcome="APPLIED", revision="004", target="004"),
    ),
    (
        "left alone",
        succeeded(Outcome.IGNORED, "003", target=None),
        LAST,
        LAST._replace(outcome="IGNORED", target=None),
    ),
    (
        "a first failure",
        failed(broken(), "002"),
        LAST._replace(revision="002"),
        LAST._replace(revision="002", outcome="FAILED"),
    ),
    ("a failure again", failed(broken(), "002"), AFTER_FAILURE, AFTER_FAILURE._replace(attempts=3)),
    (
        "a failure further on",
        failed(broken(), "002", "003"),
        AFTER_FAILURE,
        AFTER_FAILURE._replace(revision="003", attempts=1),
    ),
    (
        "a success after failures",
        succeeded(Outcome.APPLIED, "002", "003"),
        AFTER_FAILURE,
        LAST._replace(outcome="APPLIED"),
    ),
    (
        "denied at the door",
        failed(AccessDenied("no"), None, target=None),
        LAST,
        LAST._replace(outcome="ACCESS_DENIED", target=None),
    ),
    (
        "denied at the door, never seen before",
        failed(AccessDenied("no"), None, target=None),
        None,
        LAST._replace(revision=None, outcome="ACCESS_DENIED", target=None),
    ),
    (
        "another database of the same name",
        succeeded(Outcome.APPLIED, None, "003"),
        LAST._replace(dbi_resource_id="db-EARLIER", outcome="APPLIED"),
        LAST._replace(outcome="APPLIED"),
    ),
    (
        "denied, and the state is another database's",
        failed(AccessDenied("no"), None, target=None),
        LAST._replace(dbi_resource_id="db-EARLIER"),
        LAST._replace(revision=None, outcome="ACCESS_DENIED", target=None),
    ),
]


@pytest.mark.parametrize(
    ("answer", "last", "expected"), [case[1:] for case in STATES], ids=[case[0] for case in STATES]
)
def test_the_state_kept_after_a_run(
    answer: Result | MigrationError, last: ObservedState | None, expected: ObservedState | None
) -> None:
    """Only news is written, a repeated failure with its count, and never a guessed revision."""
    found = observed_state(answer, last, build="build-1", request_id="7f2c", at=AT)

    assert found == (expected._replace(request_id="7f2c") if expected else None)


def test_the_state_of_another_build_is_news() -> None:
    """A new build that finds all well says so, since the sweep goes by the build."""
    answer = succeeded(Outcome.UP_TO_DATE, "003")

    found = observed_state(answer, LAST, build="build-2", request_id="7f2c", at=AT)

    assert found == LAST._replace(build="build-2", request_id="7f2c")


@dataclass
class FakeAws:
    """Parameter Store, the bus and the topic, as far as a report needs them."""

    last: ObservedState | None = None
    written: list[ObservedState] = field(default_factory=list)
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    published: list[tuple[str, str, str]] = field(default_factory=list)

    def parameters(self, instance: str) -> Parameters:
        """Return the parameters of ``orders``."""
        assert instance == "orders"
        return Parameters(None, self.last)

    def write_observed(self, instance: str, state: ObservedState) -> None:
        """Remember the state of ``orders``."""
        assert instance == "orders"
        self.written.append(state)

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, Any]]) -> None:
        """Remember the events."""
        self.events += [(detail_type, detail) for detail in details]

    def publish(self, topic_arn: str, subject: str, text: str) -> None:
        """Remember the message."""
        self.published.append((topic_arn, subject, text))


def tell(
    answer: Result | MigrationError, aws: FakeAws, topic: str = "", *, request_id: str = "7f2c"
) -> bool:
    """Report *answer* to *aws*."""
    body = render(answer, duration_ms=1234, request_id=request_id)["body"]
    settings = Settings(build="build-1", result_topic_arn=topic)
    return report_run(REQUEST, answer, body, aws, settings)  # type: ignore[arg-type]


def test_a_success_is_kept_and_published() -> None:
    """Consumers get the whole result, and what asked for it."""
    aws = FakeAws()

    assert tell(succeeded(Outcome.APPLIED, "002", "003"), aws, TOPIC)

    assert [state.outcome for state in aws.written] == ["APPLIED"]
    assert aws.published == [(TOPIC, "day2: APPLIED on orders", "done")]
    assert aws.events == [
        (
            "Migration Succeeded",
            {
                "instance": "orders",
                "database": "shop",
                "outcome": "APPLIED",
                "message": "done",
                "applied_migrations": [],
                "previous_revision": "002",
                "final_revision": "003",
                "target_revision": "003",
                "target_source": "parameter",
                "pending_migrations": [],
                "duration_ms": 1234,
                "request_id": "7f2c",
                "trigger": "parameter",
                "action": "migrate",
            },
        )
    ]


def test_a_failure_is_kept_and_published_and_sent_to_the_topic() -> None:
    """A person who subscribed to the topic is told at once."""
    aws = FakeAws()

    assert tell(failed(broken(), "002"), aws, TOPIC)

    assert [state.outcome for state in aws.written] == ["FAILED"]
    assert [kind for kind, _ in aws.events] == ["Migration Failed"]
    assert aws.published == [(TOPIC, "day2: FAILED on orders", "revision 003 failed")]


def test_what_was_left_alone_is_no_result() -> None:
    """An ignored or interrupted run is neither a success nor a failure."""
    aws = FakeAws()

    assert tell(succeeded(Outcome.IGNORED, "003", target=None), aws, TOPIC)
    assert tell(succeeded(Outcome.INCOMPLETE, "001", "002"), aws, TOPIC)

    assert (aws.events, aws.published) == ([], [])


def test_what_is_put_off_again_and_again_is_still_counted() -> None:
    """The sweep's patience goes by failures in a row, with a put-off run before each of them."""
    aws = FakeAws()
    for number in range(4):
        put_off = succeeded(Outcome.INCOMPLETE, None)._replace(reason=PUT_OFF)
        for answer in (put_off, failed(NotReady("no answer"), None)):
            assert tell(answer, aws, request_id=f"{number}")
            aws.last = aws.written[-1] if aws.written else None

    assert [(one.outcome, one.attempts) for one in aws.written] == [
        ("NOT_READY", 1),
        ("NOT_READY", 2),
        ("NOT_READY", 3),
        ("NOT_READY", 4),
    ]


def test_a_run_without_a_known_instance_keeps_no_state() -> None:
    """Where only a host is known there is no parameter to write, and the result still leaves."""
    aws = FakeAws()
    answer = succeeded(Outcome.APPLIED, "002", "003")
    answer.report.resource_id = None

    assert tell(answer, aws)

    assert (aws.written, [kind for kind, _ in aws.events]) == ([], ["Migration Succeeded"])


def test_an_answer_stays_true_when_aws_takes_no_note_of_it() -> None:
    """A refusing bus is counted and logged; it does not turn a success into a failure."""

    class RefusingAws(FakeAws):
        def put_events(self, detail_type: str, details: Sequence[Mapping[str, Any]]) -> None:
            raise NotReady(f"the event bus refused {len(details)} {detail_type}")

    assert not tell(succeeded(Outcome.APPLIED, "002", "003"), RefusingAws())


@pytest.mark.parametrize("name", ["ord\ners", "ördérs", "x" * 300, " orders\r\n"])
def test_a_subject_is_one_that_sns_takes(name: str) -> None:
    """A line break in a name would lose the message; a name comes from whoever asked."""
    subject = as_subject(f"day2: FAILED on {name}")

    assert subject.isascii()
    assert subject.isprintable()
    assert 0 < len(subject) < 100


DIRECT = Request(Trigger.DIRECT, instance="orders")


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        (REQUEST, Result(Outcome.INCOMPLETE, "later", Report(), PUT_OFF), True),
        (REQUEST, Result(Outcome.INCOMPLETE, "the rest was requested", Report()), False),
        (REQUEST, NotReady("for too long"), False),
        (REQUEST, LockBusy("for too long"), False),
        (DIRECT, NotReady("ask again"), True),
        (DIRECT, LockBusy("ask again"), True),
        (DIRECT, AccessDenied("no"), False),
        (Sweep(), NotReady("ssm:GetParametersByPath is busy"), True),
        (FleetBump(), NotReady("the event bus refused 2 event(s)"), True),
        (FleetBump(), Rejected("no such revision"), False),
        (None, Rejected("no event of ours"), False),
    ],
)
def test_what_is_tried_again_has_not_failed(
    asked: Asked | None, answer: Result | MigrationError, *, expected: bool
) -> None:
    """An alarm that rings for what mends itself is heard no more."""
    assert _is_put_off(asked, answer) is expected
