"""Since when an instance counts as behind: what the alarm goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from core.actions.sweep import sweep
from core.budget import Budget
from core.model import (
    Declared,
    ManagedDatabase,
    ObservedState,
    Parameters,
    Sweep,
    TargetSource,
)
from core.settings import Settings
from tests.equipment.fakes import FakeRegister

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class OneInstance(FakeRegister):
    """A fleet of one."""

    created: timedelta
    parameters: Parameters

    def databases(self) -> list[ManagedDatabase]:
        """Return it."""
        one = ManagedDatabase(
            "orders",
            "arn",
            "db-ORDERS",
            "postgres",
            "available",
            host="orders.example",
            created_at=NOW - self.created,
            tags={"day2": "enabled"},
        )
        return [one]

    def all_parameters(self) -> dict[str, Parameters]:
        """Return its parameters."""
        return {"orders": self.parameters}

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None:
        """Take them."""


def observed(age: timedelta, build: str = "this") -> ObservedState:
    """Return a state at revision 001 that is *age* old."""
    return ObservedState("db-ORDERS", "shop", "001", "APPLIED", "001", build, NOW - age, "id")


def declared(value: str, age: timedelta) -> Declared:
    """Return a target that was declared *age* ago."""
    return Declared(value, TargetSource.PARAMETER, "name", declared_at=NOW - age)


CASES = [
    (
        "a bump of an hour ago, at its old target for a year",
        YEAR,
        declared("002", HOUR),
        YEAR,
        HOUR,
    ),
    ("declared a year ago, restored an hour ago", HOUR, declared("002", YEAR), HOUR / 2, HOUR),
    ("declared a day ago, tried an hour ago", YEAR, declared("002", 24 * HOUR), HOUR, 24 * HOUR),
]


@pytest.mark.parametrize(
    ("created", "target", "seen", "expected"),
    [case[1:] for case in CASES],
    ids=[c[0] for c in CASES],
)
def test_an_instance_is_behind_since_its_target_was_declared(
    created: timedelta, target: Declared, seen: timedelta, expected: timedelta
) -> None:
    """Or since it exists: an old observed state makes nobody late."""
    assert oldest(created, target, observed(seen)) == expected


@pytest.mark.parametrize("target", [None, declared("head", YEAR)], ids=["FollowHead", "head"])
def test_a_new_build_makes_nobody_late(target: Declared | None) -> None:
    """It moves head; only a run of that build that did not get there is late."""
    assert oldest(YEAR, target, observed(YEAR, build="earlier")) == timedelta()
    assert oldest(YEAR, target, observed(HOUR)) == HOUR


def oldest(created: timedelta, target: Declared | None, state: ObservedState) -> timedelta:
    """Return what a sweep counts for an instance with *target* and *state*."""
    _, found = sweep(
        Sweep(),
        OneInstance(created, Parameters(target, state)),
        ("001", "002"),
        Settings(build="this", follow_head=True),
        budget=Budget.of(60),
        now=lambda: NOW,
    )
    assert found.requested == ["orders"]
    return timedelta(seconds=found.oldest_behind_seconds)
