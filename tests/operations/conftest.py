"""What the tests of day-to-day operation share: the deployed stack, and a day of one instance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local.local_aws import LocalAws
from tests.operations.story import Story


@pytest.fixture(scope="session")
def patterns(local_aws: LocalAws, deployed: dict[str, str]) -> dict[str, str]:
    """Return the pattern of each rule of the deployed stack, as EventBridge holds it."""
    rules = local_aws.client("events").list_rules(NamePrefix="day2-")["Rules"]
    assert deployed
    return {rule["Name"]: rule["EventPattern"] for rule in rules if "EventPattern" in rule}


@pytest.fixture(scope="session")
def story(local_aws: LocalAws, deployed: dict[str, str]) -> Iterator[Story]:
    """Play a day of one instance, once for all tests that look at what it left."""
    told = Story(local_aws, deployed)
    told.begin()
    told.tell()
    yield told
    told.end()
