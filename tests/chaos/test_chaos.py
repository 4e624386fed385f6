"""The faults of ``make chaos``, a few times each: those that wait for silence side by side."""

from __future__ import annotations

from tests.chaos.__main__ import run_all


def test_no_fault_fools_the_runner() -> None:
    """Whatever breaks in the middle, nothing committed is lost and the next run carries on."""
    rows = run_all(short=True)

    assert {row.fault: row.wrong for row in rows if not row.is_good} == {}
