"""The observed state: what is kept of a run for the next sweep, and how it is read again."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any

from core.errors import MigrationError
from core.model import ObservedState, Report, Result, cut

# What makes two states the same news; when and by which request they came does not count.
_SAME = ("dbi_resource_id", "database", "revision", "outcome", "target", "build")

# A parameter holds 4 KB (Parameter Store, "Standard tier"), and a declared target may be as long.
_TARGET_CHARACTERS = 128
_STATE_CHARACTERS = 4096
# In JSON a character may take six.
_ERROR_CHARACTERS = 300
_BRACE_BEFORE_BRACE = re.compile(r"\{(?=\{)")


def observed_state(
    answer: Result | MigrationError,
    last: ObservedState | None,
    *,
    build: str,
    request_id: str,
    at: datetime,
    error: str | None = None,
) -> ObservedState | None:
    """
    Return the state to keep after *answer*, or ``None`` where it says nothing new.

    Parameter Store takes few writes a second, so an unchanged success is not written; an
    unchanged failure is, since its attempts are what the sweep's patience goes by. *error* says
    why it failed; another text is the same failure.
    """
    report = answer.report or Report()
    if last is not None and last.dbi_resource_id != report.resource_id:
        last = None
    # A run that never got to the database leaves the revision as it was last seen.
    is_seen = answer.outcome.success or report.previous_revision or report.final_revision
    state = ObservedState(
        dbi_resource_id=report.resource_id or "",
        database=report.database or "",
        revision=report.final_revision if is_seen or last is None else last.revision,
        outcome=answer.outcome.value,
        target=as_kept(report.target_revision),
        build=build,
        at=at,
        request_id=request_id,
        error=None if error is None or answer.outcome.success else _first_line(error),
    )
    if last is None or any(getattr(last, name) != getattr(state, name) for name in _SAME):
        return state
    # Lambda's retries of one event are one attempt: they have its id.
    if answer.outcome.success or last.request_id == request_id:
        return None
    return state._replace(attempts=last.attempts + 1)


def as_kept(target: str | None) -> str | None:
    """Return *target* as the state has it: of one that is absurdly long, its start and digest."""
    if target is None or len(target) <= _TARGET_CHARACTERS:
        return target
    return f"{target[:64]}…{hashlib.sha256(target.encode()).hexdigest()[:32]}"


def _first_line(text: str) -> str:
    """Return the first line of *text* as a parameter takes it, which has no braces in pairs."""
    line = next(iter(text.strip().splitlines()), "")
    return _BRACE_BEFORE_BRACE.sub("{ ", cut(line, _ERROR_CHARACTERS))


def written(state: ObservedState) -> str:
    """Return *state* as the parameter's value."""
    return json.dumps(state._asdict() | {"at": state.at.isoformat()})


def read(text: str) -> ObservedState | None:
    """
    Return the state that *text* is, or ``None`` where it is not one of ours.

    People edit parameters, and so do other tools and other builds: nothing in it is trusted
    before its type is known.
    """
    if len(text) > _STATE_CHARACTERS:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    at, attempts = _time(fields.get("at")), fields.get("attempts", 1)
    texts = {name: fields.get(name) for name in _TEXTS}
    maybe = {name: fields.get(name) for name in _TEXTS_OR_NULL}
    is_whole = (
        at is not None
        and all(isinstance(value, str) for value in texts.values())
        and all(value is None or isinstance(value, str) for value in maybe.values())
        and isinstance(attempts, int)
        and not isinstance(attempts, bool)
        and attempts >= 1
    )
    if not is_whole:
        return None
    return ObservedState(**texts, **maybe, at=at, attempts=attempts)  # type: ignore[arg-type]


_TEXTS = ("dbi_resource_id", "database", "outcome", "build", "request_id")
_TEXTS_OR_NULL = ("revision", "target", "error")


def _time(value: Any) -> datetime | None:
    """Return the time that *value* is in ISO 8601, in UTC; one without a zone is none."""
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
