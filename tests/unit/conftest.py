"""What the unit tests share: one instance, of which each test changes what it is about."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.model import Kind, ManagedDatabase, ManagedSecret


@pytest.fixture
def orders() -> ManagedDatabase:
    """Return an instance: opted in, usable, with a master secret that RDS keeps."""
    return ManagedDatabase(
        identifier="orders",
        arn="arn:aws:rds:us-east-1:123456789012:db:orders",
        resource_id="db-ORDERS",
        engine="postgres",
        status="available",
        engine_version="15.18",
        host="orders.abc.us-east-1.rds.amazonaws.com",
        port=5432,
        db_name="shop",
        master_username="master",
        managed_secret=ManagedSecret(
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-1-AbCdEf", "active"
        ),
        vpc_id="vpc-1",
        security_groups=("sg-1",),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        tags={"day2": "enabled"},
    )


@pytest.fixture
def orders_cluster(orders: ManagedDatabase) -> ManagedDatabase:
    """Return a cluster of the same name: opted in, usable, with a master secret that RDS keeps."""
    return orders._replace(
        kind=Kind.CLUSTER,
        arn="arn:aws:rds:us-east-1:123456789012:cluster:orders",
        resource_id="cluster-ORDERS",
        engine="aurora-postgresql",
        engine_version="16.4",
        host="orders.cluster-abc.us-east-1.rds.amazonaws.com",
        other_hosts=(
            "orders.cluster-ro-abc.us-east-1.rds.amazonaws.com",
            "any.cluster-custom-abc.us-east-1.rds.amazonaws.com",
        ),
        managed_secret=ManagedSecret(
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!cluster-1-AbCdEf", "active"
        ),
        members=("orders-2", "orders-1"),
        writer="orders-1",
    )
