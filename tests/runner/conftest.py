"""One real server, a small AWS and the warm function, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.equipment.world import World, make_history


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    """Make a server with few connections to spare, an AWS and a container."""
    with World.made(settings={"max_connections": "25", "max_prepared_transactions": "2"}) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """Make the database empty, and declare nothing."""
    shared_world.reset()
    yield shared_world
    if shared_world.server.pid is None:
        shared_world.server.start()


@pytest.fixture
def history(tmp_path: Path) -> Callable[..., Path]:
    """Write a history of the given revisions, and return its ``alembic.ini``."""

    def make(revisions: Mapping[str, str], *, after: str | None = None) -> Path:
        number = sum(1 for _ in tmp_path.iterdir())
        return make_history(tmp_path / f"history-{number}", revisions, after=after)

    return make
