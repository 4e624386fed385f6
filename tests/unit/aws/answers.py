"""What services of AWS answer, as their APIs document it, and an AWS to ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from botocore.stub import Stubber

from core.aws.account import Aws
from core.budget import Budget
from core.model import ObservedState
from core.settings import Settings

Stub = Callable[[str], Stubber]

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
STATE = ObservedState("db-ORDERS", "shop", "003", "APPLIED", "003", "build-1", AT, "7f2c")
STATE_TEXT = json.dumps(
    {
        "dbi_resource_id": "db-ORDERS",
        "database": "shop",
        "revision": "003",
        "outcome": "APPLIED",
        "target": "003",
        "build": "build-1",
        "at": "2026-05-04T10:00:00+00:00",
        "request_id": "7f2c",
        "attempts": 1,
        "error": None,
    }
)

# As the RDS API documents it; what day2 does not read is left out.
DB_INSTANCE = {
    "DBInstanceIdentifier": "orders",
    "DBInstanceArn": "arn:aws:rds:us-east-1:123456789012:db:orders",
    "DbiResourceId": "db-ORDERS",
    "Engine": "postgres",
    "EngineVersion": "15.18",
    "DBInstanceStatus": "available",
    "Endpoint": {"Address": "orders.abc.us-east-1.rds.amazonaws.com", "Port": 5432},
    "IAMDatabaseAuthenticationEnabled": True,
    "DBName": "shop",
    "MasterUsername": "master",
    "MasterUserSecret": {
        "SecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-1-AbCdEf",
        "SecretStatus": "active",
    },
    "DBSubnetGroup": {"VpcId": "vpc-1"},
    "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-1", "Status": "active"}],
    "InstanceCreateTime": datetime(2026, 1, 1, tzinfo=UTC),
    "TagList": [{"Key": "day2", "Value": "enabled"}],
}


DB_CLUSTER: dict[str, Any] = {
    "DBClusterIdentifier": "orders",
    "DBClusterArn": "arn:aws:rds:us-east-1:123456789012:cluster:orders",
    "DbClusterResourceId": "cluster-ORDERS",
    "Engine": "aurora-postgresql",
    "EngineVersion": "16.4",
    "EngineMode": "provisioned",
    "Status": "available",
    "Endpoint": "orders.cluster-abc.us-east-1.rds.amazonaws.com",
    "ReaderEndpoint": "orders.cluster-ro-abc.us-east-1.rds.amazonaws.com",
    "CustomEndpoints": ["any.cluster-custom-abc.us-east-1.rds.amazonaws.com"],
    "Port": 5432,
    "DatabaseName": "shop",
    "MasterUsername": "master",
    "DBSubnetGroup": "private",
    "MasterUserSecret": {
        "SecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!cluster-1-AbCdEf",
        "SecretStatus": "active",
    },
    "DBClusterMembers": [
        {"DBInstanceIdentifier": "orders-2", "IsClusterWriter": False},
        {"DBInstanceIdentifier": "orders-1", "IsClusterWriter": True},
    ],
    "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-1"}],
    "ClusterCreateTime": datetime(2026, 1, 1, tzinfo=UTC),
    "TagList": [{"Key": "day2", "Value": "enabled"}],
}


def parameter(name: str, value: str, kind: str = "String") -> dict[str, str]:
    """Return a parameter as SSM answers it."""
    return {"Name": name, "Value": value, "Type": kind}


def patient(pauses: list[float], seconds: float = 300.0) -> Budget:
    """Return a budget of *seconds* that only remembers its *pauses*."""
    return Budget(lambda: seconds - sum(pauses), 0, pauses.append)


def set_to(shared: Aws, settings: Settings) -> Aws:
    """Return *shared* with other settings, and its clients."""
    other = Aws(settings, session=shared._session)
    other._clients = shared._clients
    return other
