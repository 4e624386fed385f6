"""The one entry point: an event in, a response or an exception out. Powertools lives here."""

from __future__ import annotations

import logging
import os
import time
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from core.actions.carry_out import carry_out
from core.actions.run import Run
from core.aws import Aws
from core.budget import Budget
from core.decisions.eligibility import SKIPPED
from core.errors import Incomplete, MigrationError, RunFailed
from core.model import Action, FleetBump, Ignored, Report, Request, Result, Sweep, Trigger
from core.outcome import Outcome
from core.revisions.runner import Revisions
from core.settings import Settings
from handlers.reporting import report_run
from handlers.requests import Asked, asks_to_raise, is_event, parse, request_id
from handlers.responses import render

if TYPE_CHECKING:
    from core.actions.sweep import Findings

NAMESPACE = "day2"

# A fleet's runs end together, and Parameter Store takes three writes a second. An event can
# wait for its turn; a caller cannot.
REPORT_SECONDS = 300
DIRECT_REPORT_SECONDS = 20
REPORT_MARGIN_SECONDS = 3

# They change nothing, so there is nothing to tell of them.
_READING = (Action.STATUS, Action.PLAN, Action.CHECK)

# The service is the stack, by POWERTOOLS_SERVICE_NAME.
logger = Logger()
metrics = Metrics(namespace=NAMESPACE)


class Application:
    """What one container makes once and keeps: settings, AWS clients, the loaded history."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def aws(self) -> Aws:
        return Aws(self.settings)

    @cached_property
    def revisions(self) -> Revisions:
        return Revisions()


_applications: dict[str, Application] = {}


def application() -> Application:
    """Return this container's application, made from its environment variables at first use."""
    if "it" not in _applications:
        for name in ("core", "handlers"):
            # Core logs with the standard library; its lines leave as ours do.
            source = logging.getLogger(name)
            source.handlers = logger.handlers
            source.setLevel(logger.log_level)
            source.propagate = False
        _applications["it"] = Application(Settings.from_env(os.environ))
    return _applications["it"]


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: object, context: Any) -> dict[str, Any]:
    """
    Answer a direct request; carry out an event, and raise what goes wrong with it.

    Raises:
        MigrationError: For whatever came over EventBridge, and with ``raise_on_failure``,
            so that Lambda tries again and then keeps the event in the on-failure queue.
    """
    begun = time.monotonic()
    ident = request_id(event, context.aws_request_id)
    logger.append_keys(request_id=ident)
    asked: Asked | None = None
    answer: Result | MigrationError
    try:
        ours = application()
        asked = parse(event, ours.settings.prefix)
        answer = _do(asked, ours, context, ident)
    except MigrationError as error:
        answer = error
    except Exception as error:
        logger.exception("unexpected error")
        answer = RunFailed(f"unexpected {type(error).__name__}: see the log of this request")
        answer.__cause__ = error

    duration_ms = int((time.monotonic() - begun) * 1000)
    response = render(answer, duration_ms=duration_ms, request_id=ident)
    _note(asked, answer, response["body"])
    if isinstance(asked, Request) and asked.action not in _READING:
        left = context.get_remaining_time_in_millis() / 1000 - REPORT_MARGIN_SECONDS
        most = DIRECT_REPORT_SECONDS if asked.is_direct else REPORT_SECONDS
        is_reported = report_run(
            asked,
            answer,
            response["body"],
            ours.aws,
            ours.settings,
            patience=Budget.of(min(left, most)),
        )
        metrics.add_metric("ReportingFailed", MetricUnit.Count, int(not is_reported))

    if isinstance(answer, MigrationError) and (is_event(event) or asks_to_raise(event)):
        raise answer
    if asks_to_raise(event) and not answer.outcome.success:
        raise Incomplete(response["body"]["message"])
    return response


def _do(asked: Asked, ours: Application, context: Any, ident: str) -> Result:
    """Do what was asked; what looks at the fleet is imported by those few that do."""
    budget = Budget(
        lambda: context.get_remaining_time_in_millis() / 1000, ours.settings.margin_seconds
    )
    match asked:
        case Ignored():
            logger.info("ignored: %s", asked.message, extra={"reason": asked.reason})
            report = Report(instance=asked.instance)
            return Result(Outcome.IGNORED, asked.message, report, asked.reason)
        case FleetBump():
            from core.actions.sweep import bump_fleet

            result, found = bump_fleet(ours.aws, ours.settings)
            # It looked at nobody's state, so it says nothing of who is behind or blocked.
            metrics.add_metric("InstancesSkipped", MetricUnit.Count, found.skipped.total())
        case Sweep():
            from core.actions.sweep import sweep

            result, found = sweep(
                asked,
                ours.aws,
                ours.revisions.identifiers,
                ours.settings,
                budget=budget,
                now=lambda: datetime.now(UTC),
            )
            _count(found)
        case Request():
            return carry_out(
                Run(
                    request=asked,
                    cloud=ours.aws,
                    revisions=ours.revisions,
                    settings=ours.settings,
                    budget=budget,
                    request_id=ident,
                )
            )
    return result


def _count(found: Findings) -> None:
    metrics.add_metric("InstancesSkipped", MetricUnit.Count, found.skipped.total())
    metrics.add_metric("InstancesBlocked", MetricUnit.Count, len(found.blocked))
    metrics.add_metric("InstancesBehind", MetricUnit.Count, found.behind)
    metrics.add_metric("OldestBehindSeconds", MetricUnit.Seconds, found.oldest_behind_seconds)


def _note(asked: Asked | None, answer: Result | MigrationError, body: dict[str, Any]) -> None:
    """Write the one line that says how the run ended, and its metrics."""
    # "message" is the log line's own; request_id is on every line.
    line = {
        name: value
        for name, value in body.items()
        if name not in ("history", "plan", "roles", "message", "request_id")
    }
    line["result"] = body["message"]
    line["trigger"], line["action"] = _asked_by(asked)
    if isinstance(answer, MigrationError):
        logger.error(
            "run finished", extra=line, exc_info=answer if isinstance(answer, RunFailed) else None
        )
        metrics.add_metric("MigrationFailures", MetricUnit.Count, 1)
    else:
        logger.info("run finished", extra=line)
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
