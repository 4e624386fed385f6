"""Whose a database is, by what its books say."""

from __future__ import annotations

import pytest

from core.decisions.keeper import Keeper, keeper

CASES = [
    (None, None, "db-A", Keeper.NOBODY),
    (None, "db-A", "db-A", Keeper.NOBODY),
    ("day2", "db-A", "db-A", Keeper.OURS),
    ("day2", "db-A", "db-B", Keeper.A_COPYS),
    ("day2", None, "db-B", Keeper.OURS),
    ("day2", "db-A", None, Keeper.OURS),
    ("other", "db-A", "db-A", Keeper.ANOTHER),
    ("other", "db-A", "db-B", Keeper.A_COPYS),
    ("other", None, "db-B", Keeper.ANOTHER),
    ("other", "db-A", None, Keeper.ANOTHER),
    ("other", None, None, Keeper.ANOTHER),
]


@pytest.mark.parametrize(("said", "its_instance", "instance", "expected"), CASES)
def test_whose_it_is(
    said: str | None, its_instance: str | None, instance: str | None, expected: Keeper
) -> None:
    """A copy is nobody's yet; where the instance is not known, the stack's name alone decides."""
    assert keeper(said, its_instance, stack="day2", instance=instance) is expected
