"""Revisions of all that ends a transaction, drawn by chance: what is reported is what is there."""

from __future__ import annotations

from pathlib import Path

from tests.equipment.mixtures import try_many
from tests.equipment.single import programs  # noqa: F401
from tests.equipment.site import Site

COUNT = 40
SEED = 20261125


def test_what_is_reported_of_a_mixture_is_what_the_database_has(site: Site, tmp_path: Path) -> None:
    """Nothing is recorded that was lost, nothing that was kept is called lost."""
    print(f"seed {SEED}")  # noqa: T201 - for whoever draws them again

    wrong = try_many(site, tmp_path, count=COUNT, seed=SEED, tell=print)

    assert wrong == {}
