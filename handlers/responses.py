"""The response contract: results and errors in, JSON out. Pure."""

from __future__ import annotations

from typing import Any

from core.errors import MigrationError
from core.model import Report, Result
from core.outcome import Outcome
from handlers.bounds import RESPONSE_BYTES, bounded


def render(answer: Result | MigrationError, *, duration_ms: int, request_id: str) -> dict[str, Any]:
    """Return the response for *answer*; an outside caller may rely on every word of it."""
    report = answer.report or Report()
    outcome: Outcome = answer.outcome
    body: dict[str, Any] = {
        "success": outcome.success,
        "message": answer.message if isinstance(answer, Result) else str(answer),
        "outcome": outcome.value,
        "applied_migrations": report.applied,
        "final_revision": report.final_revision,
        "previous_revision": report.previous_revision,
        "target_revision": report.target_revision,
        "target_source": report.target_source and report.target_source.value,
        "instance": report.instance,
        "database": report.database,
        "pending_migrations": report.pending,
        "duration_ms": duration_ms,
        "request_id": request_id,
    }
    if isinstance(answer, Result) and answer.reason is not None:
        body["reason"] = answer.reason
    if report.warnings:
        body["warnings"] = report.warnings
    if report.at is not None:
        body["at"] = report.at
    whole = bounded(body | report.details, RESPONSE_BYTES)
    return {"statusCode": outcome.status_code, "body": whole}
