"""
What we ask of ourselves on the event bus, in the words that ``handlers/requests.py`` reads.

Every event that wakes us and that we put on the bus is written here: a run for each of many
instances, the rest of a run, and the rest of a sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from core.model import MIGRATION_REQUESTED, SWEEP_REQUESTED, Action


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


def request_sweep(bus: Bus, *, after: str, full: bool) -> None:
    """Request the rest of a sweep, behind the instance *after*."""
    bus.put_events(SWEEP_REQUESTED, [{"after": after, "full": full}])
