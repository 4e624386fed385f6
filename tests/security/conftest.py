"""One PostgreSQL for all of these tests: what they are about does not change with its version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.postgres import Server
from infra.local.postgres_programs import Programs, find_programs
from tests.equipment.site import make_empty
from tests.integration.conftest import (  # noqa: F401  fixtures are found by their names here
    at_head,
    authority,
    ca_file,
    server,
    site,
)
from tests.security import recorder
from tests.security.function import Function
from tests.security.small_aws import SmallAws
from tests.security.world import World

recorder.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Look at the recorded calls when all the other tests have made theirs."""
    items.sort(key=lambda item: item.path.name == "test_least_privilege_in_aws.py")


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Find the PostgreSQL that is used where nobody asks for another."""
    return find_programs()


@pytest.fixture
def aws() -> Iterator[SmallAws]:
    """Make an account in which there is nothing."""
    made = SmallAws()
    yield made
    recorder.CALLS.extend((call.action, dict(call.arguments)) for call in made.calls)
    made.close()


@pytest.fixture(scope="session")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """Start the function's process."""
    variables = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "DAY2_LOCK_WAIT_SECONDS": "5",
        "DAY2_MINIMUM_SLICE_SECONDS": "1",
        "DAY2_MARGIN_SECONDS": "1",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_METRICS_NAMESPACE": "day2",
        "POWERTOOLS_SERVICE_NAME": "day2",
    }
    with Function(variables, tmp_path_factory.mktemp("function")) as made:
        yield made


@pytest.fixture
def world(server: Server, ca_file: Path, aws: SmallAws, function: Function) -> World:  # noqa: F811
    """Put an instance with an empty database into the account."""
    make_empty(server)
    return World(server, ca_file, aws, function)
