"""What a revision costs beside its own statements: one round trip, whatever is watched over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.equipment.histories import history_of
from tests.equipment.site import Site, make_empty

PLAIN = 'op.execute("CREATE TABLE public.{} ()")'


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_revision_costs_one_round_trip(site: Site, tmp_path: Path, direction: str) -> None:
    """It records it, commits it and opens the transaction of the next."""
    sent = {}
    for count in (3, 8):
        names = [f"a{number}" for number in range(count)]
        history = history_of(
            tmp_path / str(count),
            {name: PLAIN.format(name) for name in names},
            {name: f'op.execute("DROP TABLE public.{name}")' for name in names},
        )
        make_empty(site.server)
        before = len(site.server.log)
        site.run(revisions=history)
        if direction == "downgrade":
            before = len(site.server.log)
            site.downgrade(*reversed(names), revisions=history)
        # The server writes a line for each message of statements that it is sent.
        lines = site.server.log[before:].splitlines()
        sent[count] = sum(" statement: " in line for line in lines)

    assert sent[8] - sent[3] == 5 * (1 + 1), sent


def test_run_with_nothing_to_do_costs_five_round_trips(site: Site, tmp_path: Path) -> None:
    """The lock, whose the schema is, where the database stands, and the books, read once."""
    history = history_of(tmp_path, {"a1": PLAIN.format("a1")})
    for _ in range(2):
        site.run(revisions=history)
    before = len(site.server.log)

    site.run(revisions=history)

    # A server without TLS of its own is asked by its front, too, who may come.
    lines = site.server.log[before:].splitlines()
    sent = [line for line in lines if f" {site.master}@" in line and " statement: " in line]
    assert len(sent) == 5, sent
