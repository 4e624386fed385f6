"""RDS: instances, clusters, what they are a part of, and tokens to enter them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.aws import described
from core.aws.calls import Calls
from core.aws.failures import calling
from core.errors import NoSuchInstance
from core.model import ManagedDatabase
from core.settings import Settings


class Rds(Calls):
    """The databases of one account and region."""

    def __init__(self, settings: Settings, session: Any = None) -> None:
        super().__init__(settings, session)
        self._vpcs: dict[str, str | None] = {}

    def instance(self, identifier: str) -> ManagedDatabase:
        """
        Return the instance *identifier*.

        Raises:
            NoSuchInstance: RDS knows none of this name.
        """
        found = self._call(
            "rds:DescribeDBInstances",
            f"instance {identifier}",
            lambda: self._client("rds").describe_db_instances(DBInstanceIdentifier=identifier),
            NoSuchInstance,
        )
        return described.instance(found["DBInstances"][0])

    def instances(self) -> Iterator[ManagedDatabase]:
        """Yield every instance of the account and region, page by page."""
        every = self._all(
            "rds:DescribeDBInstances",
            "DBInstances",
            lambda **more: self._client("rds").describe_db_instances(**more),
        )
        yield from map(described.instance, every)

    def cluster(self, identifier: str) -> ManagedDatabase:
        """
        Return the cluster *identifier*.

        Raises:
            NoSuchInstance: RDS knows none of this name.
        """
        found = self._call(
            "rds:DescribeDBClusters",
            f"cluster {identifier}",
            lambda: self._client("rds").describe_db_clusters(DBClusterIdentifier=identifier),
            NoSuchInstance,
        )
        return self._cluster(found["DBClusters"][0])

    def clusters(self) -> Iterator[ManagedDatabase]:
        """Yield every cluster of the account and region, page by page."""
        every = self._all(
            "rds:DescribeDBClusters",
            "DBClusters",
            lambda **more: self._client("rds").describe_db_clusters(**more),
        )
        yield from map(self._cluster, every)

    def _cluster(self, found: Mapping[str, Any]) -> ManagedDatabase:
        """Return a cluster with its VPC, which only its subnet group tells."""
        group = found.get("DBSubnetGroup")
        # Asked for where it counts only; it never changes.
        if not group or not self._settings.vpc_id:
            return described.cluster(found)
        if group not in self._vpcs:
            answer = self._call(
                "rds:DescribeDBSubnetGroups",
                f"subnet group {group}",
                lambda: self._client("rds").describe_db_subnet_groups(DBSubnetGroupName=group),
            )
            self._vpcs[group] = answer["DBSubnetGroups"][0].get("VpcId")
        return described.cluster(found)._replace(vpc_id=self._vpcs[group])

    def read_only_clusters(self) -> frozenset[str]:
        """
        Return the ARN of every cluster that is a secondary of a global cluster.

        They answer by their own endpoints, and take no writes (Aurora User Guide, "Using Amazon
        Aurora Global Database"); ``DescribeDBClusters`` does not tell.
        """
        every = self._all(
            "rds:DescribeGlobalClusters",
            "GlobalClusters",
            lambda **more: self._client("rds").describe_global_clusters(**more),
        )
        return frozenset(
            member["DBClusterArn"]
            for one in every
            for member in one.get("GlobalClusterMembers", [])
            if not member.get("IsWriter")
        )

    def in_deployments(self) -> frozenset[str]:
        """
        Return the ARN of every instance and cluster that is a side of a blue/green deployment.

        One that was switched over has ended, whether it is deleted or not (RDS API,
        BlueGreenDeployment, "Status").
        """
        every = self._all(
            "rds:DescribeBlueGreenDeployments",
            "BlueGreenDeployments",
            lambda **more: self._client("rds").describe_blue_green_deployments(**more),
        )
        return frozenset(
            side
            for deployment in every
            if deployment.get("Status") != "SWITCHOVER_COMPLETED"
            for side in described.sides(deployment)
        )

    def auth_token(self, host: str, port: int, user: str) -> str:
        """Return a token for IAM database authentication; signed here, valid 15 minutes."""
        with calling("rds-db:connect", f"{user} at {host}"):
            return str(
                self._client("rds").generate_db_auth_token(
                    DBHostname=host, Port=port, DBUsername=user
                )
            )
