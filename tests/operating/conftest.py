"""What the tests of day-to-day operation share: the deployed stack, and a day of one instance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local.local_aws import LocalAws
from tests.operating.story import Story


def pytest_itemcollected(item: pytest.Item) -> None:
    """They look at all that happens in it, so they have a local AWS to themselves."""
    item.add_marker("alone")


def put_to_sleep(aws: LocalAws, name: str) -> None:
    """Let the stack *name* hear of nothing: the local AWS fails to delete one like ours."""
    events = aws.client("events")
    for rule in events.list_rules(NamePrefix=f"{name}-")["Rules"]:
        events.disable_rule(Name=rule["Name"])


@pytest.fixture(scope="session")
def patterns(local_aws: LocalAws, deployed: dict[str, str]) -> dict[str, str]:
    """Return the pattern of each rule of the deployed stack, as EventBridge holds it."""
    cloud, events = local_aws.client("cloudformation"), local_aws.client("events")
    assert deployed
    resources = cloud.describe_stack_resources(StackName="day2")["StackResources"]
    names = {
        one["PhysicalResourceId"].rpartition("/")[2]
        for one in resources
        if one["ResourceType"] == "AWS::Events::Rule"
    }
    rules = [events.describe_rule(Name=name) for name in names]
    return {rule["Name"]: rule["EventPattern"] for rule in rules if "EventPattern" in rule}


@pytest.fixture(scope="session")
def story(local_aws: LocalAws, deployed: dict[str, str]) -> Iterator[Story]:
    """Play a day of one instance, once for all tests that look at what it left."""
    told = Story(local_aws, deployed)
    told.begin()
    told.tell()
    yield told
    told.end()
