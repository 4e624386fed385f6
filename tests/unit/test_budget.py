"""How long a run may take, and how it pauses between tries."""

from __future__ import annotations

from itertools import islice

import pytest

from core.budget import Budget, pauses


@pytest.mark.parametrize(("remaining", "left"), [(900, 890), (10, 0), (3, 0), (-1, 0)])
def test_a_margin_is_kept_for_reporting(remaining: float, left: float) -> None:
    """What is left is the function's time less the margin, and never less than nothing."""
    assert Budget(lambda: remaining, 10).left() == left


def test_a_budget_of_seconds_runs_down() -> None:
    """A budget that nobody refills is spent by the clock."""
    budget = Budget.of(0.0)

    assert budget.left() == 0.0
    assert 0 < Budget.of(60, 10).left() <= 50


def test_pauses_double_up_to_the_longest_with_jitter() -> None:
    """Each pause is between half of its step and all of it, so that a fleet falls out of step."""
    steps = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]

    taken = list(islice(pauses(0.1, 1.0), len(steps)))

    assert [step / 2 <= pause <= step for pause, step in zip(taken, steps, strict=True)] == (
        [True] * len(steps)
    )
    assert len(set(taken)) == len(taken)
