"""DB clusters of the local AWS, as a client of RDS asks for them: made, waited for, removed."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

from infra.local import processes
from infra.local.local_aws import LocalAws, LocalAwsError

READY_SECONDS = 60


def create(aws: LocalAws, cluster: str, *, members: int = 1, **more: Any) -> None:
    """
    Ask for an Aurora PostgreSQL *cluster* and its *members*, or for a Multi-AZ DB cluster.

    The members are ``<cluster>-1`` and so on; RDS makes those of a Multi-AZ cluster itself. Its
    master secret is managed unless *more* says else.
    """
    rds = aws.client("rds")
    request = {
        "DBClusterIdentifier": cluster,
        "Engine": "aurora-postgresql",
        "MasterUsername": "postgres",
        **({} if "MasterUserPassword" in more else {"ManageMasterUserPassword": True}),
        **more,
    }
    rds.create_db_cluster(**request)
    if request["Engine"] == "aurora-postgresql":
        for number in range(members):
            add_member(aws, cluster, f"{cluster}-{number + 1}")


def add_member(aws: LocalAws, cluster: str, instance: str, **more: Any) -> None:
    """Ask for one more *instance* in an Aurora *cluster*."""
    aws.client("rds").create_db_instance(
        DBInstanceIdentifier=instance,
        DBClusterIdentifier=cluster,
        Engine="aurora-postgresql",
        DBInstanceClass="db.serverless",
        **more,
    )


def describe(aws: LocalAws, cluster: str) -> dict[str, Any]:
    """Return what RDS says of *cluster*."""
    found = aws.client("rds").describe_db_clusters(DBClusterIdentifier=cluster)
    return dict(found["DBClusters"][0])


def wait_for(
    aws: LocalAws,
    cluster: str,
    status: str = "available",
    *,
    timeout_seconds: float = READY_SECONDS,
) -> dict[str, Any]:
    """
    Wait until *cluster* and all its members have *status*; return what RDS says of the cluster.

    Raises:
        LocalAwsError: They had not in time.
    """
    rds = aws.client("rds")
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = describe(aws, cluster)
        members = {member["DBInstanceIdentifier"] for member in found["DBClusterMembers"]}
        statuses = {
            one["DBInstanceStatus"]
            for one in rds.describe_db_instances()["DBInstances"]
            if one["DBInstanceIdentifier"] in members
        } | {found["Status"]}
        if statuses == {status}:
            return found
        if "failed" in statuses or time.monotonic() > deadline:
            raise LocalAwsError(f"{cluster} is {', '.join(statuses)}, see {aws.state.log}")
        time.sleep(0.05)


def is_asleep(aws: LocalAws, cluster: str) -> bool:
    """Tell whether no server of *cluster* runs, whatever RDS says of it."""
    found = aws.client("rds").describe_db_instances()["DBInstances"]
    folders = [
        aws.state.servers / one["DbiResourceId"] / "data"
        for one in found
        if one.get("DBClusterIdentifier") == cluster
    ]
    pids = [(processes.read_pid(folder / "postmaster.pid"), folder) for folder in folders]
    return not any(pid and processes.is_running(pid, folder) for pid, folder in pids)


def remove(aws: LocalAws, cluster: str) -> None:
    """Delete *cluster* with its members, if it exists."""
    rds = aws.client("rds")
    try:
        found = describe(aws, cluster)
        if found["Engine"] == "aurora-postgresql":
            for member in found["DBClusterMembers"]:
                rds.delete_db_instance(
                    DBInstanceIdentifier=member["DBInstanceIdentifier"], SkipFinalSnapshot=True
                )
        rds.delete_db_cluster(DBClusterIdentifier=cluster, SkipFinalSnapshot=True)
    except ClientError as error:
        if error.response["Error"]["Code"] != "DBClusterNotFoundFault":
            raise
