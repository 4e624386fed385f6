"""Instances and clusters: what is asked of RDS, and read of its answers."""

from __future__ import annotations

from typing import Any

import pytest

from core.aws.account import Aws
from core.budget import Budget
from core.errors import NoSuchInstance
from core.model import ManagedDatabase, ManagedSecret
from core.settings import Settings
from tests.unit.aws.answers import DB_CLUSTER, DB_INSTANCE, Stub, set_to


def test_an_instance_is_read(aws: Aws, stub: Stub, orders: ManagedDatabase) -> None:
    """Every field that a decision needs comes from DescribeDBInstances."""
    stub("rds").add_response(
        "describe_db_instances",
        {"DBInstances": [DB_INSTANCE]},
        {"DBInstanceIdentifier": "orders"},
    )

    assert aws.instance("orders") == orders._replace(takes_tokens=True)


def test_an_instance_that_is_being_made_has_little(aws: Aws, stub: Stub) -> None:
    """No endpoint, no secret, a tag without a value: what RDS does not say is None or empty."""
    young = {"DBInstanceIdentifier": "orders", "Engine": "postgres", "DBInstanceStatus": "creating"}
    tagged = young | {"TagList": [{"Key": "team"}]}
    stub("rds").add_response("describe_db_instances", {"DBInstances": [tagged]})

    assert aws.instance("orders") == ManagedDatabase(
        "orders", "", "", "postgres", "creating", tags={"team": ""}
    )


def test_a_cluster_member_and_a_replica_are_told(aws: Aws, stub: Stub) -> None:
    """What makes an instance not ours is read, and a secret's state with it."""
    both = DB_INSTANCE | {
        "DBClusterIdentifier": "cluster",
        "ReadReplicaSourceDBInstanceIdentifier": "source",
        "MasterUserSecret": {"SecretArn": "arn"},
    }
    stub("rds").add_response("describe_db_instances", {"DBInstances": [both]})

    found = aws.instance("orders")

    assert (found.cluster, found.replica_of) == ("cluster", "source")
    assert found.managed_secret == ManagedSecret("arn", "active")


def test_a_replica_of_a_cluster_is_told(aws: Aws, stub: Stub) -> None:
    """A Multi-AZ DB cluster's replica is an instance, and read-only like every other."""
    replica = DB_INSTANCE | {"ReadReplicaSourceDBClusterIdentifier": "cluster"}
    stub("rds").add_response("describe_db_instances", {"DBInstances": [replica]})

    assert aws.instance("orders").replica_of == "cluster"


def test_both_sides_of_a_deployment_are_told_until_it_is_switched_over(
    aws: Aws, stub: Stub
) -> None:
    """With the replicas of each, page by page; in whatever state it has not ended."""
    members = [{"SourceMember": "arn:blue-replica", "TargetMember": "arn:green-replica"}, {}]
    # RDS API, BlueGreenDeployment, "Status".
    lasting = (
        "PROVISIONING",
        "AVAILABLE",
        "SWITCHOVER_IN_PROGRESS",
        "SWITCHOVER_FAILED",
        "DELETING",
        "INVALID_CONFIGURATION",
        "PROVISIONING_FAILED",
    )
    first = [{"Status": status, "Source": f"arn:{status}"} for status in lasting]
    ended = {"Status": "SWITCHOVER_COMPLETED", "Source": "arn:x-old1", "Target": "arn:x"}
    last = [{"Source": "arn:blue", "Target": "arn:green", "SwitchoverDetails": members}]
    more = {"BlueGreenDeployments": [*first, ended], "Marker": "next"}
    stub("rds").add_response("describe_blue_green_deployments", more)
    stub("rds").add_response(
        "describe_blue_green_deployments", {"BlueGreenDeployments": last}, {"Marker": "next"}
    )

    assert aws.in_deployments() == {
        *(f"arn:{status}" for status in lasting),
        "arn:blue",
        "arn:green",
        "arn:blue-replica",
        "arn:green-replica",
    }


def test_all_instances_are_read_page_by_page(aws: Aws, stub: Stub) -> None:
    """A fleet larger than one page is read to its end."""
    second = DB_INSTANCE | {"DBInstanceIdentifier": "billing"}
    stub("rds").add_response(
        "describe_db_instances", {"DBInstances": [DB_INSTANCE], "Marker": "next"}
    )
    stub("rds").add_response("describe_db_instances", {"DBInstances": [second]}, {"Marker": "next"})

    assert [one.identifier for one in aws.instances()] == ["orders", "billing"]


def test_a_cluster_is_read(aws: Aws, stub: Stub, orders_cluster: ManagedDatabase) -> None:
    """Every field that a decision needs comes from DescribeDBClusters, but for the VPC."""
    stub("rds").add_response(
        "describe_db_clusters", {"DBClusters": [DB_CLUSTER]}, {"DBClusterIdentifier": "orders"}
    )

    assert aws.cluster("orders") == orders_cluster._replace(vpc_id=None)


def test_the_vpc_of_a_cluster_is_asked_for_once_and_where_it_counts(
    stub: Stub, shared: Aws, orders_cluster: ManagedDatabase
) -> None:
    """Only its subnet group tells, which stays where it is."""
    stub("rds").add_response("describe_db_clusters", {"DBClusters": [DB_CLUSTER] * 2})
    stub("rds").add_response(
        "describe_db_subnet_groups",
        {"DBSubnetGroups": [{"VpcId": "vpc-1"}]},
        {"DBSubnetGroupName": "private"},
    )
    in_vpc = set_to(shared, Settings(vpc_id="vpc-1"))

    assert list(in_vpc.within(Budget.of(0)).clusters()) == [orders_cluster] * 2


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"EngineMode": "serverless"}, "serverless-v1"),
        ({"ClusterScalabilityType": "limitless"}, "limitless"),
        ({"VPCNetworkingEnabled": False, "InternetAccessGatewayEnabled": True}, "express"),
        ({"VPCNetworkingEnabled": True, "ClusterScalabilityType": "standard"}, None),
    ],
)
def test_what_a_cluster_is_not_served_for_is_read(
    changes: dict[str, Any], limit: str | None, aws: Aws, stub: Stub
) -> None:
    """Whatever else it says: the shape decides."""
    stub("rds").add_response("describe_db_clusters", {"DBClusters": [DB_CLUSTER | changes]})

    assert aws.cluster("orders").limit == limit


@pytest.mark.parametrize(("least", "sleeps"), [(0, True), (0.5, False), (None, False)])
def test_a_cluster_that_may_be_asleep_is_known(
    least: float | None, aws: Aws, stub: Stub, *, sleeps: bool
) -> None:
    """RDS has no status for it, so the least capacity decides."""
    scaling = (
        {}
        if least is None
        else {"ServerlessV2ScalingConfiguration": {"MinCapacity": least, "MaxCapacity": 4}}
    )
    stub("rds").add_response("describe_db_clusters", {"DBClusters": [DB_CLUSTER | scaling]})

    assert aws.cluster("orders").sleeps is sleeps


def test_a_young_cluster_and_a_replica_are_told(aws: Aws, stub: Stub) -> None:
    """No instance writes yet; of a replica, what it copies."""
    young = DB_CLUSTER | {"DBClusterMembers": [], "ReplicationSourceIdentifier": "arn:source"}
    stub("rds").add_response("describe_db_clusters", {"DBClusters": [young]})

    found = aws.cluster("orders")

    assert (found.writer, found.replica_of) == (None, "arn:source")


def test_a_cluster_that_is_not_there(aws: Aws, stub: Stub) -> None:
    """Its code is its own, and means what it means of an instance."""
    stub("rds").add_client_error("describe_db_clusters", "DBClusterNotFoundFault")

    with pytest.raises(NoSuchInstance, match="cluster orders does not exist"):
        aws.cluster("orders")


def test_the_secondaries_of_global_clusters_are_told_page_by_page(aws: Aws, stub: Stub) -> None:
    """Each global cluster has one that writes."""
    members = [
        {"DBClusterArn": "arn:primary", "IsWriter": True},
        {"DBClusterArn": "arn:secondary", "IsWriter": False},
    ]
    stub("rds").add_response(
        "describe_global_clusters",
        {"GlobalClusters": [{"GlobalClusterMembers": members}], "Marker": "next"},
    )
    other = [{"DBClusterArn": "arn:other", "IsWriter": False}]
    stub("rds").add_response(
        "describe_global_clusters",
        {"GlobalClusters": [{"GlobalClusterMembers": other}, {}]},
        {"Marker": "next"},
    )

    assert aws.read_only_clusters() == {"arn:secondary", "arn:other"}


def test_an_authentication_token_names_who_and_where(aws: Aws) -> None:
    """The token is signed here; nothing is sent."""
    token = aws.auth_token("orders.example", 5432, "master")

    assert token.startswith("orders.example:5432/?Action=connect&DBUser=master&")
