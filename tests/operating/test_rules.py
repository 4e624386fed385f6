"""Which events wake the function, by EventBridge's own TestEventPattern on the deployed rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from infra.local.local_aws import LocalAws
from tests.operating.story import samples

INSTANCES, CLUSTERS = "day2-instances", "day2-clusters"
DEPLOYMENTS = "day2-blue-green"
PARAMETERS, REQUESTS = "day2-parameters", "day2-requests"

# The rule that each sample event matches; an event of EventBridge that is not here wakes nobody.
WAKE = {
    "cluster_created": CLUSTERS,
    "cluster_credentials_reset": CLUSTERS,
    "cluster_failed_over": CLUSTERS,
    "cluster_global_failover": CLUSTERS,
    "cluster_promoted": CLUSTERS,
    "cluster_renamed": CLUSTERS,
    "cluster_started": CLUSTERS,
    "cluster_started_after_longest_stop": CLUSTERS,
    "cluster_switched_over": CLUSTERS,
    "cluster_volume_replaced": CLUSTERS,
    "deployment_deleted": DEPLOYMENTS,
    "deployment_switched_over": DEPLOYMENTS,
    "fleet_parameter_updated": PARAMETERS,
    "ignored_parameter_refused": PARAMETERS,
    "instance_created": INSTANCES,
    "instance_credentials_reset": INSTANCES,
    "instance_restarted": INSTANCES,
    "instance_restored_from_snapshot": INSTANCES,
    "instance_restored_to_point_in_time": INSTANCES,
    "instance_started": INSTANCES,
    "instance_started_after_longest_stop": INSTANCES,
    "parameter_created": PARAMETERS,
    "parameter_created_localstack": PARAMETERS,
    "parameter_updated": PARAMETERS,
    "rejected_detail_text": REQUESTS,
    "rejected_instance_without_name": INSTANCES,
    "rejected_requested_by_secret": REQUESTS,
    "rejected_requested_relative_target": REQUESTS,
    "rejected_requested_rollback": REQUESTS,
    "rejected_requested_without_instance": REQUESTS,
    "rejected_sweep_full_text": REQUESTS,
    "rejected_sweep_unknown_field": REQUESTS,
    "requested": REQUESTS,
    "requested_status": REQUESTS,
    "requested_with_target": REQUESTS,
    "sweep_continued": REQUESTS,
}

# What differs from a sample that does wake us, and must make it wake nobody.
NEAR_MISSES: list[tuple[str, Mapping[str, Any]]] = [
    ("instance_created", {"account": "210987654321"}),
    ("instance_created", {"source": "aws.rds.mine"}),
    ("instance_created", {"detail-type": "RDS DB Cluster Event"}),
    ("instance_created", {"detail.EventID": "RDS-EVENT-0003"}),
    ("instance_created", {"detail.EventID": None}),
    ("cluster_created", {"account": "210987654321"}),
    ("cluster_created", {"detail-type": "RDS DB Instance Event"}),
    ("cluster_created", {"detail.SourceType": "DB_INSTANCE"}),
    ("cluster_created", {"detail.EventID": "RDS-EVENT-0171"}),
    ("deployment_deleted", {"detail.EventID": "RDS-EVENT-0244"}),
    ("instance_restored_from_snapshot", {"detail.SourceType": "SNAPSHOT"}),
    ("instance_restored_from_snapshot", {"detail.SourceType": "CLUSTER"}),
    ("parameter_updated", {"account": "210987654321"}),
    ("parameter_updated", {"detail-type": "Parameter Store Policy Action"}),
    ("parameter_updated", {"detail.operation": "Delete"}),
    ("parameter_updated", {"detail.operation": "LabelParameterVersion"}),
    ("parameter_updated", {"detail.name": "/day2/orders/observed-state"}),
    ("parameter_updated", {"detail.name": "/day2/_fleet/observed-state"}),
    ("parameter_updated", {"detail.name": "/day2/orders/target-revision/old"}),
    ("parameter_updated", {"detail.name": "/day2/orders/target-revisions"}),
    ("parameter_updated", {"detail.name": "/day2-blue/orders/target-revision"}),
    ("parameter_updated", {"detail.name": "/team/day2/orders/target-revision"}),
    ("parameter_updated", {"detail.name": "day2/orders/target-revision"}),
    ("requested", {"account": "210987654321"}),
    ("requested", {"source": "day2-blue"}),
    ("requested", {"source": "day2.schedule"}),
    ("requested", {"detail-type": "Migration Succeeded"}),
    ("requested", {"detail-type": "Migration Failed"}),
]


def matching(
    aws: LocalAws, patterns: Mapping[str, str], event: Mapping[str, Any], account: str
) -> set[str]:
    """Return the names of the rules that *event* of *account* matches."""
    # A sample has AWS's example account, and an input of a schedule has none.
    whole = {
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "time": "2026-11-22T10:00:00Z",
        "region": "us-east-1",
        "resources": [],
        **event,
        "account": account,
    }
    client = aws.client("events")
    return {
        name
        for name, pattern in patterns.items()
        if client.test_event_pattern(EventPattern=pattern, Event=json.dumps(whole))["Result"]
    }


def changed(event: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return *event* with the fields of *changes*, in its detail where their names say so."""
    it: dict[str, Any] = json.loads(json.dumps(event))
    for name, value in changes.items():
        where, _, field = name.rpartition(".")
        (it[where] if where else it)[field] = value
    return it


def test_each_rule_matches_its_samples_and_no_other(
    local_aws: LocalAws, patterns: dict[str, str]
) -> None:
    """Every sample that EventBridge could deliver wakes us by one rule, or by none."""
    events = {
        name: event
        for name, event in samples().items()
        if isinstance(event, dict) and "source" in event
    }

    found = {
        name: matching(local_aws, patterns, event, "000000000000") for name, event in events.items()
    }

    assert set(patterns) == {INSTANCES, CLUSTERS, DEPLOYMENTS, PARAMETERS, REQUESTS}
    assert found == {name: {WAKE[name]} if name in WAKE else set() for name in events}
    assert set(WAKE) <= set(events)
    # The others are what a schedule sends; tests/house/test_triggers.py compares it.
    accepted = {name for name in events if not name.startswith(("ignored_", "rejected_"))}
    assert accepted - set(WAKE) == {"sweep_scheduled", "sweep_scheduled_full"}


@pytest.mark.parametrize(
    ("name", "changes"), NEAR_MISSES, ids=[f"{name} {changes}" for name, changes in NEAR_MISSES]
)
def test_a_near_miss_wakes_nobody(
    name: str, changes: Mapping[str, Any], local_aws: LocalAws, patterns: dict[str, str]
) -> None:
    """One field away from waking us: another account, stack, operation, or our own result."""
    event = changed(samples()[name], changes)
    account = str(changes.get("account", "000000000000"))

    assert matching(local_aws, patterns, event, account) == set()
