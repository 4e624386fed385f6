"""
What we ask of ourselves on the event bus, in the words that ``handlers/requests.py`` reads.

Every event that wakes us and that we send is written here: a run for each of many instances,
the rest of a run, a run for an instance that is still being made, and the rest of a sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from core.model import MIGRATION_REQUESTED, SWEEP_REQUESTED, Action, Request


class Bus(Protocol):
    """Where events are put; ``core.aws`` has the real one."""

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None: ...


def request_runs(bus: Bus, instances: Iterable[str]) -> None:
    """Request a run to its declared target for each of *instances*."""
    details = [{"instance": name, "action": Action.MIGRATE.value} for name in instances]
    bus.put_events(MIGRATION_REQUESTED, details)


def request_rest(bus: Bus, instance: str, *, target: str | None, continues: str) -> None:
    """
    Request what the run *continues* left undone.

    *target* is as that run was asked for, ``None`` for the declared one. Beyond the declared
    one only the rest of a direct run may go, so the request says whose rest it is.
    """
    detail: dict[str, object] = {"instance": instance, "action": Action.MIGRATE.value}
    rest = {} if target is None else {"target_revision": target, "continues": continues}
    bus.put_events(MIGRATION_REQUESTED, [detail | rest])


def request_later(bus: Bus, asked: Request, *, wait_until: datetime) -> str:
    """
    Request *asked* again, for an instance that is still being made.

    Returns:
        Until when it is waited for, as written.
    """
    until = wait_until.isoformat(timespec="seconds")
    detail: dict[str, object] = {
        "instance": asked.instance,
        "action": asked.action.value,
        "wait_until": until,
    }
    bus.put_events(MIGRATION_REQUESTED, [detail | _target(asked.target)])
    return until


def request_sweep(bus: Bus, *, after: str, full: bool) -> None:
    """Request the rest of a sweep, behind the instance *after*."""
    bus.put_events(SWEEP_REQUESTED, [{"after": after, "full": full}])


def _target(target: str | None) -> dict[str, object]:
    return {} if target is None else {"target_revision": target}
