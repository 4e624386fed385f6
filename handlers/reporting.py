"""
All that is told of a run beside its response, in one place.

One log line, metrics, the instance's observed state, a result event, and the topic. Powertools
lives here, and in the entry point that these two of its objects wrap.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from core.access.naming import find
from core.actions.carry_out import PUT_OFF
from core.aws.account import Aws
from core.budget import Budget
from core.decisions.eligibility import SKIPPED
from core.decisions.observed import observed_state
from core.errors import MESSAGE_CHARACTERS, MigrationError, RunFailed
from core.model import READING, FleetBump, Request, Result, Sweep, Trigger, cut
from core.outcome import Outcome
from core.postgres.masking import masked
from core.settings import Settings
from handlers.application import Application
from handlers.bounds import EVENT_BYTES, LOG_LINE_BYTES, bounded
from handlers.requests import Asked

if TYPE_CHECKING:
    from core.actions.sweep import Findings

NAMESPACE = "day2"
SUCCEEDED = "Migration Succeeded"
FAILED = "Migration Failed"

# A fleet's runs end together, and Parameter Store takes three writes a second. An event can
# wait for its turn; a caller cannot.
REPORT_SECONDS = 600
DIRECT_REPORT_SECONDS = 20
REPORT_MARGIN_SECONDS = 3

# SNS API, Publish, "Subject".
SUBJECT_CHARACTERS = 99

_AT_TARGET = (Outcome.APPLIED, Outcome.UP_TO_DATE)
# Too long for one log line, or on each line already.
_NOT_IN_THE_LINE = ("history", "plan", "roles", "message", "request_id")


def as_line(line: Mapping[str, Any]) -> str:
    """
    Return a line of the log as JSON, without what a traceback may show of a password.

    CloudWatch Logs takes 256 KB, and cuts no JSON well.
    """
    return json.dumps(_masked(bounded(line, LOG_LINE_BYTES)), default=str)


def _masked(value: Any) -> Any:
    """Return *value*, a part of some JSON, without passwords in its texts."""
    match value:
        case str():
            return masked(value)
        case Mapping():
            return {name: _masked(one) for name, one in value.items()}
        case list() | tuple():
            return [_masked(one) for one in value]
        case _:
            return value


# The service is the stack, by POWERTOOLS_SERVICE_NAME.
logger = Logger(json_serializer=as_line)
metrics = Metrics(namespace=NAMESPACE)


def tell(
    asked: Asked | None,
    answer: Result | MigrationError,
    body: Mapping[str, Any],
    ours: Application | None,
    seconds_left: Callable[[], float],
) -> None:
    """
    Tell of *answer*, whose response has *body*, wherever somebody may look for it.

    *asked* and *ours* are ``None`` where it did not come to them. *seconds_left* is the time
    until the platform ends us.
    """
    _log(asked, answer, body, ours.settings.build if ours else None)
    _measure(asked, answer, body)
    if ours is not None and isinstance(asked, Request) and asked.action not in READING:
        most = DIRECT_REPORT_SECONDS if asked.is_direct else REPORT_SECONDS
        patience = Budget.of(min(seconds_left() - REPORT_MARGIN_SECONDS, most))
        aws = ours.aws.within(patience)
        is_reported = report_run(asked, answer, body, aws, ours.settings)
        metrics.add_metric("ReportingFailed", MetricUnit.Count, int(not is_reported))


def count_fleet(asked: Sweep | FleetBump, found: Findings) -> None:
    """Count what a look at the fleet found."""
    metrics.add_metric("InstancesSkipped", MetricUnit.Count, found.skipped.total())
    if isinstance(asked, FleetBump):
        # It looked at nobody's state, so it says nothing of who is behind or blocked.
        return
    metrics.add_metric("InstancesBlocked", MetricUnit.Count, len(found.blocked))
    metrics.add_metric("InstancesBehind", MetricUnit.Count, found.behind)
    if found.orphaned_secrets is not None:
        metrics.add_metric("OrphanedSecrets", MetricUnit.Count, found.orphaned_secrets)
    metrics.add_metric("StrangeStates", MetricUnit.Count, found.strange_states)
    metrics.add_metric("OldestBehindSeconds", MetricUnit.Seconds, found.oldest_behind_seconds)


def lend_our_log() -> None:
    """Let the lines of ``core`` and ``handlers``, of the standard library's, leave as ours do."""
    for name in ("core", "handlers"):
        source = logging.getLogger(name)
        source.handlers = logger.handlers
        source.setLevel(logger.log_level)
        source.propagate = False


def _log(
    asked: Asked | None,
    answer: Result | MigrationError,
    body: Mapping[str, Any],
    build: str | None,
) -> None:
    """Write the one line that says how the run ended."""
    line = {name: value for name, value in body.items() if name not in _NOT_IN_THE_LINE}
    line = bounded(line, LOG_LINE_BYTES // 2)
    # "message" is the log line's own.
    line["result"] = body["message"]
    line["trigger"], line["action"] = _asked_by(asked)
    if isinstance(asked, Request) and asked.waiting is not None:
        line["waiting_since"] = asked.waiting.since.isoformat()
    line["build"] = build
    if isinstance(answer, MigrationError):
        trace = answer if isinstance(answer, RunFailed) else None
        logger.error("run finished", extra=line, exc_info=trace)
    else:
        logger.info("run finished", extra=line)


def _measure(asked: Asked | None, answer: Result | MigrationError, body: Mapping[str, Any]) -> None:
    """Write the metrics of a run that has ended."""
    if _is_put_off(asked, answer):
        metrics.add_metric("RunsPutOff", MetricUnit.Count, 1)
    elif isinstance(answer, MigrationError):
        metrics.add_metric("MigrationFailures", MetricUnit.Count, 1)
    # The one metric with a dimension more; on all of them it would blind the alarms.
    with single_metric("Runs", MetricUnit.Count, 1, namespace=NAMESPACE) as runs:
        runs.add_dimension("service", metrics.service or logger.service)
        runs.add_dimension("Outcome", answer.outcome.value)
    metrics.add_metric("RunDuration", MetricUnit.Milliseconds, body["duration_ms"])
    if isinstance(answer, Result) and answer.reason in SKIPPED:
        metrics.add_metric("InstancesSkipped", MetricUnit.Count, 1)
    if answer.report is not None:
        changed = len(answer.report.changed_files)
        metrics.add_metric("RevisionFilesChanged", MetricUnit.Count, changed)
    metrics.add_metric("RevisionsApplied", MetricUnit.Count, len(body["applied_migrations"]))


def _is_put_off(asked: Asked | None, answer: Result | MigrationError) -> bool:
    """
    Say whether *answer* has not failed yet: what it met mends itself, and it is tried again.

    An event's run that still fails so is at the end of its patience. A person tries again as
    they like, and Lambda and the schedule do so for the fleet.
    """
    if isinstance(answer, Result):
        return answer.reason == PUT_OFF
    is_event_of_one = isinstance(asked, Request) and not asked.is_direct
    return answer.outcome.retryable and asked is not None and not is_event_of_one


def _asked_by(asked: Asked | None) -> tuple[str | None, str | None]:
    """Return what asked and for what, in the words of the log."""
    match asked:
        case Request():
            return asked.trigger.value, asked.action.value
        case Sweep():
            return Trigger.SWEEP.value, "sweep"
        case FleetBump():
            return Trigger.PARAMETER.value, "bump"
        case _:
            return None, None


def report_run(
    request: Request,
    answer: Result | MigrationError,
    body: Mapping[str, Any],
    aws: Aws,
    settings: Settings,
) -> bool:
    """
    Keep the observed state of the instance and publish the result.

    The database is what it is whether or not AWS takes note of it: a failure here is
    logged and counted, and never turns a true answer into another.

    Returns:
        Whether everything was reported.
    """
    ended = _Ended(request, answer, body, aws, settings)
    is_reported = True
    for tell in (ended.keep_state, ended.put_result, ended.publish):
        try:
            tell()
        except Exception:
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

    def keep_state(self) -> None:
        """Write the instance's observed state where this run says something new of it."""
        report = self.answer.report
        if report is None or report.instance is None or self._goes_on_later:
            return
        name = report.instance
        if report.resource_id is None and self._failed and not self.request.is_direct:
            # It failed before it got to the instance, over its secret say. The sweep has to
            # know, or it would knock at every turn.
            # The report has the name of the cluster, whatever member the event was about.
            asked = Request(Trigger.REQUEST, instance=name)
            found = find(asked, self.aws, self.settings)
            # Of two by one name it cannot be said whose state that would be.
            report.resource_id = None if found.namesake else found.resource_id
        if not report.resource_id:
            return
        state = observed_state(
            self.answer,
            (report.parameters or self.aws.parameters(name)).observed,
            build=self.settings.build,
            request_id=self.body["request_id"],
            at=datetime.now(UTC),
            error=masked(self.body["message"]),
        )
        if state is not None:
            self.aws.write_observed(name, state)

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
            message = cut(self.body["message"], MESSAGE_CHARACTERS)
            self.aws.publish(topic_arn, as_subject(subject), message)

    @property
    def _failed(self) -> bool:
        return isinstance(self.answer, MigrationError)

    @property
    def _goes_on_later(self) -> bool:
        """Whether it was put off: its end is the news, and the sweep counts failures till then."""
        return isinstance(self.answer, Result) and self.answer.reason == PUT_OFF


def as_subject(text: str) -> str:
    """Return *text* as SNS takes a subject: ASCII, under 100 characters, in one line."""
    line = "".join(one if " " <= one <= "~" else "?" for one in " ".join(text.split()))
    return line[:SUBJECT_CHARACTERS].strip()


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
    detail = {name: body[name] for name in names} | {
        "trigger": request.trigger.value,
        "action": request.action.value,
    }
    return bounded(detail, EVENT_BYTES)
