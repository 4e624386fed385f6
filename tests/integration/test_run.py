"""What a run does to a database, and what it says of it."""

from __future__ import annotations

from core.errors import Outcome
from tests.integration.bench import Bench


def test_all_revisions_are_applied_to_an_empty_database(bench: Bench) -> None:
    """A run to head applies every revision, in order."""
    result = bench.run()

    assert (result.outcome, result.message) == (
        Outcome.APPLIED,
        "Successfully applied 4 migration(s) to reach 004",
    )
