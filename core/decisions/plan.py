"""Which revisions to apply: pure decisions over plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.errors import BehindCurrent, DatabaseAhead, Rejected, UnknownRevision
from core.model import HEAD


class Plan(NamedTuple):
    """The revisions between *current* and *target*, in the order they run. Empty: up to date."""

    current: str | None
    target: str | None
    revisions: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.revisions)


def known_current(history: Sequence[str], current: str | None) -> int:
    """
    Return how many revisions of *history* (oldest first) a database at *current* has.

    Raises:
        DatabaseAhead: *current* is not a revision of this build.
    """
    if current is None:
        return 0
    if current not in history:
        raise DatabaseAhead(
            f"the database is at revision {current!r}, which this build does not have: "
            "deploy the build that has it; nothing was changed"
        )
    return history.index(current) + 1


def resolve(history: Sequence[str], target: str) -> str | None:
    """
    Return the identifier that *target* means; ``None`` for ``head`` of an empty history.

    Raises:
        UnknownRevision: *target* is not a revision of this build.
    """
    if target == HEAD:
        return history[-1] if history else None
    if target not in history:
        raise UnknownRevision(target, tuple(history))
    return target


def plan(history: Sequence[str], current: str | None, target: str) -> Plan:
    """
    Plan the way from *current* (``None``: base) to *target* along *history*, oldest first.

    Raises:
        UnknownRevision: *target* is not a revision of this build.
        DatabaseAhead: *current* is not a revision of this build.
        BehindCurrent: *target* is older than *current*.
    """
    start = known_current(history, current)
    goal = resolve(history, target)
    end = 0 if goal is None else history.index(goal) + 1
    if end < start:
        raise BehindCurrent(goal, current)
    return Plan(current, goal, tuple(history[start:end]))


def plan_rollback(history: Sequence[str], current: str | None, target: str) -> Plan:
    """
    Plan the way back from *current* to *target*, an exact older revision, newest first.

    Raises:
        UnknownRevision: *target* is not a revision of this build.
        DatabaseAhead: *current* is not a revision of this build.
        Rejected: *target* is not below *current*.
    """
    start = known_current(history, current)
    if target not in history:
        raise UnknownRevision(target, tuple(history))
    end = history.index(target) + 1
    if end >= start:
        raise Rejected(
            f"target_revision: {target} is not below current {current or 'base'}: "
            'a rollback goes back only; use action "migrate" to go forward'
        )
    return Plan(current, target, tuple(reversed(history[end:start])))
