"""The one entry point: parse, do, tell, and then answer or raise."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from core.actions.carry_out import carry_out
from core.actions.run import Run
from core.budget import Budget
from core.errors import Incomplete, MigrationError, RunFailed
from core.model import READING, FleetBump, Ignored, Report, Request, Result, Sweep
from core.outcome import Outcome
from handlers.application import Application, application
from handlers.reporting import count_fleet, lend_our_log, logger, metrics, tell
from handlers.requests import Asked, asks_to_raise, is_event, original, parse, request_id
from handlers.responses import render

# For so long a busy AWS is asked again by whoever only looks.
LOOK_SECONDS = 5.0


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: object, context: Any) -> dict[str, Any]:
    """
    Answer a direct request; carry out an event, and raise what goes wrong with it.

    Raises:
        MigrationError: For whatever came over EventBridge, and with ``raise_on_failure``,
            so that Lambda tries again and then keeps the event in the on-failure queue.
    """
    return respond(event, context, application)


def respond(event: object, context: Any, make: Callable[[], Application]) -> dict[str, Any]:
    """Do what ``handler`` does, with the application that *make* returns."""
    begun = time.monotonic()
    ident = request_id(event, context.aws_request_id)
    logger.append_keys(request_id=ident)
    lend_our_log()
    ours: Application | None = None
    asked: Asked | None = None
    answer: Result | MigrationError
    try:
        ours = make()
        asked = parse(event, ours.settings.prefix, ours.settings.waiting_queue_arn)
        answer = _do(asked, event, ours, context, ident)
    except MigrationError as error:
        answer = error
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told as the contract says
        logger.exception("unexpected error")
        answer = RunFailed(f"unexpected {type(error).__name__}: see the log of this request")
        answer.__cause__ = error

    duration_ms = int((time.monotonic() - begun) * 1000)
    response = render(answer, duration_ms=duration_ms, request_id=ident)
    tell(asked, answer, response["body"], ours, _seconds_left(context))

    has_waited = isinstance(asked, Request) and asked.waiting is not None
    needs_raising = asks_to_raise(event)
    if (is_event(event) or needs_raising) and isinstance(answer, MigrationError):
        raise answer
    # What has waited may wait on; its queue would keep what raises, and send it once more.
    if needs_raising and not has_waited and not answer.outcome.success:
        raise Incomplete(response["body"]["message"])
    return response


def _do(asked: Asked, event: object, ours: Application, context: Any, ident: str) -> Result:
    """Do what was asked by *event*."""
    budget = Budget(_seconds_left(context), ours.settings.margin_seconds)
    aws = ours.aws.within(_patience(asked, budget))
    match asked:
        case Ignored():
            logger.info("ignored: %s", asked.message, extra={"reason": asked.reason})
            report = Report(instance=asked.instance)
            return Result(Outcome.IGNORED, asked.message, report, asked.reason)
        case FleetBump():
            # Imported here, as below: a run of one database does not wait for it.
            from core.actions.sweep import bump_fleet

            result, found = bump_fleet(aws, ours.revisions.identifiers, ours.settings, now=_now)
        case Sweep():
            from core.actions.sweep import sweep

            result, found = sweep(
                asked,
                aws,
                ours.revisions.identifiers,
                ours.settings,
                budget=budget,
                now=_now,
            )
        case Request():
            return carry_out(
                Run(
                    request=asked,
                    cloud=aws,
                    revisions=ours.revisions,
                    settings=ours.settings,
                    budget=budget,
                    request_id=ident,
                    event=original(event),
                )
            )
    count_fleet(asked, found)
    return result


def _now() -> datetime:
    return datetime.now(UTC)


def _patience(asked: Asked, budget: Budget) -> Budget:
    """Return for how long AWS is asked again: whoever only looks is answered soon."""
    if isinstance(asked, Request) and asked.is_direct and asked.action in READING:
        return Budget.of(min(budget.left(), LOOK_SECONDS))
    return budget


def _seconds_left(context: Any) -> Callable[[], float]:
    """Return what says how many seconds Lambda still gives this invocation."""
    return lambda: context.get_remaining_time_in_millis() / 1000
