"""One PostgreSQL for all of these tests: what they are about does not change with its version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.postgres.programs import Programs
from infra.local.postgres.server import Server
from tests.equipment.single import programs  # noqa: F401
from tests.equipment.world import World
from tests.integration.conftest import (  # noqa: F401  fixtures are found by their names here
    at_head,
    authority,
    ca_file,
    server,
    servers,
    site,
)
from tests.security import recorder

recorder.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Look at the recorded calls when all the other tests have made theirs."""
    items.sort(key=lambda item: item.path.name == "test_least_privilege_in_aws.py")


@pytest.fixture(scope="session")
def shared_world(
    servers: Callable[[Programs], Server],  # noqa: F811
    programs: Programs,  # noqa: F811
    ca_file: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """Make an AWS and a container beside the server."""
    with World.on(servers(programs), ca_file, tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """Make the database empty, and declare nothing; the role is held to the calls of each test."""
    shared_world.reset()
    yield shared_world
    recorder.CALLS.extend(shared_world.aws.calls)
