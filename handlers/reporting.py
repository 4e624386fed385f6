"""What is told of a run beyond its response: observed state, result event, metrics, log line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from core.aws import Aws
from core.budget import Budget, pauses
from core.errors import MigrationError, NotReady
from core.model import ObservedState, Report, Request, Result
from core.outcome import Outcome
from core.settings import Settings

logger = logging.getLogger(__name__)

SUCCEEDED = "Migration Succeeded"
FAILED = "Migration Failed"

_AT_TARGET = (Outcome.APPLIED, Outcome.UP_TO_DATE)
_SAME = ("dbi_resource_id", "database", "revision", "outcome", "target", "build")


def report_run(
    request: Request,
    answer: Result | MigrationError,
    body: Mapping[str, Any],
    aws: Aws,
    settings: Settings,
    *,
    patience: Budget | None = None,
) -> bool:
    """
    Keep the observed state of the instance and publish the result.

    The database is what it is whether or not AWS takes note of it: a failure here is
    logged and counted, and never turns a true answer into another. *patience* is for a busy
    Parameter Store.

    Returns:
        Whether everything was reported.
    """
    ended = _Ended(request, answer, body, aws, settings, patience or Budget.of(0))
    is_reported = True
    for tell in (ended.keep_state, ended.put_result, ended.publish):
        try:
            tell()
        except MigrationError:
            logger.exception("the run could not be reported to AWS")
            is_reported = False
    return is_reported


class _Ended(NamedTuple):
    """A run that has ended, and where that is told."""

    request: Request
    answer: Result | MigrationError
    body: Mapping[str, Any]
    aws: Aws
    settings: Settings
    patience: Budget

    def keep_state(self) -> None:
        """Write the instance's observed state where this run says something new of it."""
        report = self.answer.report
        if report is None or report.instance is None:
            return
        name = report.instance
        if report.dbi_resource_id is None and self._failed and not self.request.is_direct:
            # It failed before it got to the instance, over its secret say. The sweep has to
            # know, or it would knock at every turn.
            report.dbi_resource_id = self.aws.instance(name).dbi_resource_id
        if not report.dbi_resource_id:
            return
        state = observed_state(
            self.answer,
            self._patiently(lambda: self.aws.parameters(name)).observed,
            build=self.settings.build,
            request_id=self.body["request_id"],
            at=datetime.now(UTC),
        )
        if state is not None:
            self._patiently(lambda: self.aws.write_observed(name, state))

    def put_result(self) -> None:
        """Put the result event on the bus; a run that was left alone or goes on has none."""
        if self.answer.outcome in _AT_TARGET:
            self.aws.put_events(SUCCEEDED, [_detail(self.request, self.body)])
        elif self._failed:
            self.aws.put_events(FAILED, [_detail(self.request, self.body)])

    def publish(self) -> None:
        """Tell the topic, where there is one, of what changed and of what failed."""
        topic_arn = self.settings.result_topic_arn
        if topic_arn and (self.answer.outcome is Outcome.APPLIED or self._failed):
            name = self.body["instance"] or self.request.secret_name
            subject = f"{self.settings.prefix}: {self.answer.outcome} on {name}"
            self.aws.publish(topic_arn, subject, self.body["message"])

    @property
    def _failed(self) -> bool:
        return isinstance(self.answer, MigrationError)

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """
        Return what *call* returns, trying again while AWS is busy.

        Raises:
            NotReady: It still was when our patience ended.
        """
        for pause in pauses(1.0, 10.0):
            try:
                return call()
            except NotReady:
                if self.patience.left() < pause:
                    raise
                self.patience.sleep(pause)
        raise AssertionError("pauses never end")


def observed_state(
    answer: Result | MigrationError,
    last: ObservedState | None,
    *,
    build: str,
    request_id: str,
    at: datetime,
) -> ObservedState | None:
    """
    Return the state to keep after *answer*, or ``None`` where it says nothing new.

    Parameter Store takes few writes a second, so an unchanged success is not written; an
    unchanged failure is, since its attempts are what the sweep's patience goes by.
    """
    report = answer.report or Report()
    if last is not None and last.dbi_resource_id != report.dbi_resource_id:
        last = None
    # A run that never got to the database leaves the revision as it was last seen.
    is_seen = answer.outcome.success or report.previous_revision or report.final_revision
    state = ObservedState(
        dbi_resource_id=report.dbi_resource_id or "",
        database=report.database or "",
        revision=report.final_revision if is_seen or last is None else last.revision,
        outcome=answer.outcome.value,
        target=report.target_revision,
        build=build,
        at=at,
        request_id=request_id,
    )
    if last is None or any(getattr(last, name) != getattr(state, name) for name in _SAME):
        return state
    # Lambda's retries of one event are one attempt: they have its id.
    if answer.outcome.success or last.request_id == request_id:
        return None
    return state._replace(attempts=last.attempts + 1)


def _detail(request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the detail of a result event: the response's body, and what asked."""
    names = (
        "instance",
        "database",
        "outcome",
        "message",
        "applied_migrations",
        "previous_revision",
        "final_revision",
        "target_revision",
        "target_source",
        "pending_migrations",
        "duration_ms",
        "request_id",
    )
    return {name: body[name] for name in names} | {
        "trigger": request.trigger.value,
        "action": request.action.value,
    }
