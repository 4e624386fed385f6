"""Instances and clusters, as the RDS API describes them, read into our own values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.aws.tags import by_key
from core.model import Kind, ManagedDatabase, ManagedSecret


def instance(found: Mapping[str, Any]) -> ManagedDatabase:
    """Return an instance from a ``DBInstance`` of the RDS API."""
    endpoint = found.get("Endpoint") or {}
    return ManagedDatabase(
        identifier=found["DBInstanceIdentifier"],
        arn=found.get("DBInstanceArn", ""),
        resource_id=found.get("DbiResourceId", ""),
        engine=found.get("Engine", ""),
        status=found.get("DBInstanceStatus", ""),
        engine_version=found.get("EngineVersion", ""),
        host=endpoint.get("Address"),
        port=endpoint.get("Port"),
        takes_tokens=found.get("IAMDatabaseAuthenticationEnabled", False),
        db_name=found.get("DBName"),
        master_username=found.get("MasterUsername"),
        managed_secret=_managed_secret(found),
        cluster=found.get("DBClusterIdentifier"),
        replica_of=(
            found.get("ReadReplicaSourceDBInstanceIdentifier")
            or found.get("ReadReplicaSourceDBClusterIdentifier")
        ),
        vpc_id=(found.get("DBSubnetGroup") or {}).get("VpcId"),
        security_groups=_security_groups(found),
        created_at=found.get("InstanceCreateTime"),
        tags=_tags(found),
    )


def cluster(found: Mapping[str, Any]) -> ManagedDatabase:
    """Return a cluster from a ``DBCluster`` of the RDS API."""
    capacity = found.get("ServerlessV2ScalingConfiguration") or {}
    readers = found.get("ReaderEndpoint")
    members = {
        member["DBInstanceIdentifier"]: member.get("IsClusterWriter", False)
        for member in found.get("DBClusterMembers", [])
    }
    return ManagedDatabase(
        kind=Kind.CLUSTER,
        identifier=found["DBClusterIdentifier"],
        arn=found.get("DBClusterArn", ""),
        resource_id=found.get("DbClusterResourceId", ""),
        engine=found.get("Engine", ""),
        status=found.get("Status", ""),
        engine_version=found.get("EngineVersion", ""),
        host=found.get("Endpoint"),
        port=found.get("Port"),
        other_hosts=(*([readers] if readers else []), *found.get("CustomEndpoints", [])),
        takes_tokens=found.get("IAMDatabaseAuthenticationEnabled", False),
        db_name=found.get("DatabaseName"),
        master_username=found.get("MasterUsername"),
        managed_secret=_managed_secret(found),
        replica_of=found.get("ReplicationSourceIdentifier") or None,
        security_groups=_security_groups(found),
        created_at=found.get("ClusterCreateTime"),
        tags=_tags(found),
        members=tuple(members),
        writer=next((name for name, writes in members.items() if writes), None),
        sleeps=capacity.get("MinCapacity") == 0,
        limit=_limit(found),
    )


def _limit(found: Mapping[str, Any]) -> str | None:
    """
    Return the reason code of a ``DBCluster`` whose shape day2 does not serve.

    RDS API, DBCluster, "EngineMode", "ClusterScalabilityType" and "VPCNetworkingEnabled".
    """
    if found.get("EngineMode") == "serverless":
        return "serverless-v1"
    if found.get("ClusterScalabilityType") == "limitless":
        return "limitless"
    return "express" if found.get("VPCNetworkingEnabled") is False else None


def _managed_secret(found: Mapping[str, Any]) -> ManagedSecret | None:
    secret = found.get("MasterUserSecret") or {}
    if not secret.get("SecretArn"):
        return None
    return ManagedSecret(secret["SecretArn"], secret.get("SecretStatus", "active"))


def _security_groups(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(group["VpcSecurityGroupId"] for group in found.get("VpcSecurityGroups", []))


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    return by_key(found.get("TagList", []))


def sides(deployment: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ARN of each instance and cluster in a ``BlueGreenDeployment``, replicas too."""
    members = deployment.get("SwitchoverDetails", [])
    for fields, names in (
        ((deployment,), ("Source", "Target")),
        (members, ("SourceMember", "TargetMember")),
    ):
        yield from (one[name] for one in fields for name in names if one.get(name))
