"""A DB cluster of the local AWS: real servers that stream to each other, and RDS's events."""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import psycopg2
import pytest

from infra.local import __main__ as commands
from infra.local import clusters, stack, workflow
from infra.local.local_aws import LocalAws
from infra.local.state import free_port
from tests.equipment.local_aws import Bus
from tests.equipment.waiting import wait_for
from tests.local.entering import PASSWORD, ask, connect, managed_login

FAILOVERS = 5


@pytest.fixture(scope="module")
def orders(local_aws: LocalAws) -> Iterator[str]:
    """Make a cluster with a writer and a reader, which the tests of this module share."""
    clusters.create(
        local_aws,
        "orders",
        members=2,
        DatabaseName="shop",
        MasterUsername="boss",
        MasterUserPassword=PASSWORD,
    )
    clusters.wait_for(local_aws, "orders")
    yield "orders"
    clusters.remove(local_aws, "orders")


@pytest.fixture(scope="module", autouse=True)
def nothing_left(local_aws: LocalAws) -> Iterator[None]:
    """Remove what a test that failed has left."""
    yield
    for found in local_aws.client("rds").describe_db_clusters()["DBClusters"]:
        clusters.remove(local_aws, found["DBClusterIdentifier"])


def writer(aws: LocalAws, cluster: str) -> str:
    """Return the member that RDS says *cluster* is written by."""
    (found,) = (
        member["DBInstanceIdentifier"]
        for member in clusters.describe(aws, cluster)["DBClusterMembers"]
        if member["IsClusterWriter"]
    )
    return str(found)


def enter(aws: LocalAws, cluster: str, *login: str, endpoint: str = "Endpoint") -> Any:
    """Connect to *cluster* at its *endpoint*, verify-full."""
    found = clusters.describe(aws, cluster)
    place = {"Address": found[endpoint], "Port": found["Port"]}
    name = found.get("DatabaseName", "postgres")
    return connect(aws, {"Endpoint": place, "DBName": name}, *login)


def told(events: Bus, number: int) -> list[tuple[str, str, str]]:
    """Return the id, the source's type and the source of the next *number* events, in order."""
    # They were put in it; LocalStack's bus does not keep it.
    details = sorted((events.next()["detail"] for _ in range(number)), key=lambda one: one["Date"])
    return [(one["EventID"], one["SourceType"], one["SourceIdentifier"]) for one in details]


def test_created_event_comes_before_any_member(
    local_aws: LocalAws, bus: Callable[..., Bus]
) -> None:
    """The cluster is available while nobody serves it; then its member's own event follows."""
    events = bus({"source": ["aws.rds"]})
    tags = [{"Key": "day2", "Value": "enabled"}]

    clusters.create(local_aws, "copy", members=0, Tags=tags, EnableIAMDatabaseAuthentication=True)
    created = events.next()
    alone = clusters.describe(local_aws, "copy")
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        enter(local_aws, "copy", *managed_login(local_aws, alone))
    clusters.add_member(local_aws, "copy", "copy-first", EnablePerformanceInsights=True)
    member_told = told(events, 1)
    (member,) = local_aws.client("rds").describe_db_instances()["DBInstances"]
    secret = local_aws.client("secretsmanager").describe_secret(
        SecretId=alone["MasterUserSecret"]["SecretArn"]
    )
    clusters.remove(local_aws, "copy")

    assert (alone["Status"], alone["DBClusterMembers"], alone["TagList"]) == ("available", [], tags)
    assert alone["DbClusterResourceId"].startswith("cluster-")
    assert alone["IAMDatabaseAuthenticationEnabled"] is True
    # Serverless v1 alone has it.
    assert "ScalingConfigurationInfo" not in alone
    assert member["PerformanceInsightsEnabled"] is True
    arn = alone["DBClusterArn"]
    assert (created["detail-type"], created["resources"]) == ("RDS DB Cluster Event", [arn])
    assert created["detail"] | {"Date": ""} == {
        "EventCategories": ["creation"],
        "SourceType": "CLUSTER",
        "SourceArn": arn,
        "Date": "",
        "Message": "DB cluster created",
        "SourceIdentifier": "copy",
        "EventID": "RDS-EVENT-0170",
    }
    assert member_told == [("RDS-EVENT-0005", "DB_INSTANCE", "copy-first")]
    assert secret["Name"].startswith("rds!cluster-")
    assert {"Key": "aws:rds:primaryDBClusterArn", "Value": arn} in secret["Tags"]


def test_member_that_is_deleted_before_it_is_there_never_comes(
    local_aws: LocalAws, bus: Callable[..., Bus]
) -> None:
    """Nor does it leave a server behind."""
    held = [{"Key": "day2-local:creating-seconds", "Value": "1"}]
    clusters.create(local_aws, "copy", members=0)
    clusters.add_member(local_aws, "copy", "copy-1", Tags=held)
    member = local_aws.client("rds").describe_db_instances(DBInstanceIdentifier="copy-1")
    events = bus({"source": ["aws.rds"], "detail": {"SourceIdentifier": ["copy-1", "copy-2"]}})

    workflow.remove_instance(local_aws, "copy-1")
    clusters.add_member(local_aws, "copy", "copy-2", Tags=held)
    clusters.wait_for(local_aws, "copy")

    assert told(events, 2) == [
        ("RDS-EVENT-0003", "DB_INSTANCE", "copy-1"),
        ("RDS-EVENT-0005", "DB_INSTANCE", "copy-2"),
    ]
    folder = local_aws.state.servers / member["DBInstances"][0]["DbiResourceId"]
    assert not folder.exists()
    clusters.remove(local_aws, "copy")


def test_what_rds_refuses_is_refused(local_aws: LocalAws, orders: str) -> None:
    """A second one of the name, a member stopped by itself, a failover to nobody, and more."""
    rds = local_aws.client("rds")
    rds.create_global_cluster(
        GlobalClusterIdentifier="world",
        SourceDBClusterIdentifier=clusters.describe(local_aws, orders)["DBClusterArn"],
    )

    (world,) = rds.describe_global_clusters()["GlobalClusters"]
    assert [one["IsWriter"] for one in world["GlobalClusterMembers"]] == [True]
    with pytest.raises(rds.exceptions.ClientError, match="plays no secondary cluster"):
        clusters.create(local_aws, "secondary", members=0, GlobalClusterIdentifier="world")
    rds.remove_from_global_cluster(
        GlobalClusterIdentifier="world",
        DbClusterIdentifier=clusters.describe(local_aws, orders)["DBClusterArn"],
    )
    rds.delete_global_cluster(GlobalClusterIdentifier="world")
    with pytest.raises(rds.exceptions.ClientError, match="is required unless SkipFinalSnapshot"):
        rds.delete_db_cluster(DBClusterIdentifier=orders)
    with pytest.raises(rds.exceptions.ClientError, match="cannot specify both"):
        rds.delete_db_cluster(
            DBClusterIdentifier=orders, SkipFinalSnapshot=True, FinalDBSnapshotIdentifier="last"
        )
    taken = clusters.describe(local_aws, orders)["Port"]
    port = free_port()
    clusters.create(local_aws, "second", members=0, Port=port)
    assert clusters.describe(local_aws, "second")["Port"] == port
    with pytest.raises(rds.exceptions.ClientError, match=f"Port {taken} is taken"):
        rds.modify_db_cluster(DBClusterIdentifier="second", Port=taken)
    clusters.remove(local_aws, "second")
    with pytest.raises(rds.exceptions.DBClusterAlreadyExistsFault):
        clusters.create(local_aws, orders, members=0)
    with pytest.raises(rds.exceptions.InvalidDBClusterStateFault):
        rds.stop_db_instance(DBInstanceIdentifier="orders-2")
    with pytest.raises(rds.exceptions.InvalidDBClusterStateFault):
        rds.delete_db_cluster(DBClusterIdentifier=orders, SkipFinalSnapshot=True)
    with pytest.raises(rds.exceptions.DBClusterNotFoundFault):
        rds.failover_db_cluster(DBClusterIdentifier="nobody")
    with pytest.raises(rds.exceptions.ClientError, match="stays within a major version"):
        rds.create_blue_green_deployment(
            BlueGreenDeploymentName="upgrade",
            Source=clusters.describe(local_aws, orders)["DBClusterArn"],
            TargetEngineVersion="99.1",
        )


def test_commands_know_clusters(
    local_aws: LocalAws, orders: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status lists it, and an event that names it lacks nothing."""
    found = clusters.describe(local_aws, orders)

    assert commands.status(local_aws, argparse.Namespace()) == 0
    line = f"  orders  available  localhost:{found['Port']}  (cluster)\n"
    assert line in capsys.readouterr().out
    assert stack.missing(local_aws, {"instance": orders}) == []
    assert stack.missing(local_aws, {"instance": "nobody"}) == [("instance", "nobody")]


def test_reader_shows_what_the_writer_wrote_and_takes_nothing(
    local_aws: LocalAws, orders: str
) -> None:
    """It is really in recovery, and has an endpoint and a certificate of its own."""
    ask(enter(local_aws, orders), "CREATE TABLE read AS SELECT 42 AS answer")
    position = ask(enter(local_aws, orders), "SELECT pg_current_wal_lsn()::text")[0]

    def reader() -> Any:
        return enter(local_aws, orders, endpoint="ReaderEndpoint")

    wait_for(
        lambda: ask(reader(), f"SELECT pg_last_wal_replay_lsn() >= '{position}'")[0], "streaming"
    )

    assert ask(enter(local_aws, orders), "SELECT pg_is_in_recovery()") == (False,)
    assert ask(reader(), "SELECT answer, pg_is_in_recovery() FROM read") == (42, True)
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        ask(reader(), "CREATE TABLE refused ()")


def test_failover_keeps_what_was_committed(
    local_aws: LocalAws, orders: str, bus: Callable[..., Bus]
) -> None:
    """The writer moves, whoever was connected is cut, and AWS's events come in AWS's order."""
    old, new = writer(local_aws, orders), {"orders-1": "orders-2", "orders-2": "orders-1"}
    cut = enter(local_aws, orders)
    ask(enter(local_aws, orders), "CREATE TABLE kept AS SELECT 42 AS answer")
    events = bus({"source": ["aws.rds"]})

    local_aws.client("rds").failover_db_cluster(DBClusterIdentifier=orders)
    found = told(events, 4)
    clusters.wait_for(local_aws, orders)

    assert found == [
        ("RDS-EVENT-0073", "CLUSTER", orders),
        ("RDS-EVENT-0006", "DB_INSTANCE", new[old]),
        ("RDS-EVENT-0006", "DB_INSTANCE", old),
        ("RDS-EVENT-0071", "CLUSTER", orders),
    ]
    assert writer(local_aws, orders) == new[old]
    with pytest.raises(psycopg2.Error), cut.cursor() as cursor:
        cursor.execute("SELECT 1")
    row = ask(enter(local_aws, orders), "SELECT answer, pg_is_in_recovery() FROM kept")
    assert row == (42, False)
    query = "SELECT pg_is_in_recovery()"
    assert ask(enter(local_aws, orders, endpoint="ReaderEndpoint"), query) == (True,)


def test_failovers_lose_nothing_that_was_acknowledged(local_aws: LocalAws, orders: str) -> None:
    """An application that writes all the time finds each row that it was told is kept."""
    ask(enter(local_aws, orders), "CREATE TABLE acknowledged (number int PRIMARY KEY)")
    kept: list[int] = []
    done = threading.Event()

    def write() -> None:
        for number in count():
            if done.is_set():
                return
            # One whose answer was cut may be there or not: its number is not used again.
            with contextlib.suppress(psycopg2.Error):
                ask(enter(local_aws, orders), f"INSERT INTO acknowledged VALUES ({number})")
                kept.append(number)

    with ThreadPoolExecutor(1) as application:
        writing = application.submit(write)
        try:
            for _ in range(FAILOVERS):
                before = len(kept)
                local_aws.client("rds").failover_db_cluster(DBClusterIdentifier=orders)
                clusters.wait_for(local_aws, orders)
                wait_for(lambda before=before: len(kept) > before + 3, "writes after a failover")
        finally:
            done.set()
        writing.result()

    session = enter(local_aws, orders)
    with contextlib.closing(session), session.cursor() as cursor:
        cursor.execute("SELECT number FROM acknowledged")
        found = {number for (number,) in cursor.fetchall()}
    assert set(kept) - found == set()


def test_endpoint_can_name_the_old_writer_for_a_while(local_aws: LocalAws, orders: str) -> None:
    """As names do on AWS; a tag says for how long."""
    lag = [{"Key": "day2-local:endpoint-lag-seconds", "Value": "1.5"}]
    rds, arn = local_aws.client("rds"), clusters.describe(local_aws, orders)["DBClusterArn"]
    rds.add_tags_to_resource(ResourceName=arn, Tags=lag)

    rds.failover_db_cluster(DBClusterIdentifier=orders)
    clusters.wait_for(local_aws, orders)

    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        ask(enter(local_aws, orders), "CREATE TABLE late ()")
    query = "SELECT pg_is_in_recovery()"
    wait_for(lambda: ask(enter(local_aws, orders), query) == (False,), "the new writer")
    rds.remove_tags_from_resource(ResourceName=arn, TagKeys=[lag[0]["Key"]])


def test_new_passwords_and_names_are_the_clusters(
    local_aws: LocalAws, orders: str, bus: Callable[..., Bus]
) -> None:
    """A reset master, a managed one, a rotated one, another name, another port."""
    rds = local_aws.client("rds")
    before = clusters.describe(local_aws, orders)
    events = bus({"source": ["aws.rds"]})

    def modify(name: str, **change: Any) -> dict[str, Any]:
        rds.modify_db_cluster(DBClusterIdentifier=name, ApplyImmediately=True, **change)
        return clusters.describe(local_aws, change.get("NewDBClusterIdentifier", name))

    modify(orders, ManageMasterUserPassword=True)
    first = managed_login(local_aws, clusters.describe(local_aws, orders))
    modify(orders, RotateMasterUserPassword=True)
    second = managed_login(local_aws, clusters.describe(local_aws, orders))
    renamed = modify(orders, NewDBClusterIdentifier="renamed")
    moved = modify("renamed", Port=free_port())
    row = ask(enter(local_aws, "renamed", *second), "SELECT current_user")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        enter(local_aws, "renamed", *first)
    modify("renamed", NewDBClusterIdentifier=orders)
    modify(orders, ManageMasterUserPassword=False, MasterUserPassword=PASSWORD)

    assert row == ("boss",)
    assert renamed["DbClusterResourceId"] == before["DbClusterResourceId"]
    assert renamed["DBClusterMembers"] == before["DBClusterMembers"]
    assert moved["Port"] != before["Port"]
    assert told(events, 5) == [
        ("RDS-EVENT-0016", "CLUSTER", orders),
        ("RDS-EVENT-0016", "CLUSTER", orders),
        ("RDS-EVENT-0172", "CLUSTER", "renamed"),
        ("RDS-EVENT-0172", "CLUSTER", orders),
        ("RDS-EVENT-0016", "CLUSTER", orders),
    ]


def test_stopped_cluster_keeps_its_data(
    local_aws: LocalAws, orders: str, bus: Callable[..., Bus]
) -> None:
    """Stop, start: refused meanwhile; members and cluster both tell of it."""
    rds = local_aws.client("rds")
    ask(enter(local_aws, orders), "CREATE TABLE rested AS SELECT 42 AS answer")
    events = bus({"source": ["aws.rds"]})

    rds.stop_db_cluster(DBClusterIdentifier=orders)
    clusters.wait_for(local_aws, orders, "stopped")
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        enter(local_aws, orders)
    with pytest.raises(rds.exceptions.InvalidDBClusterStateFault):
        rds.failover_db_cluster(DBClusterIdentifier=orders)
    rds.start_db_cluster(DBClusterIdentifier=orders)
    clusters.wait_for(local_aws, orders)

    assert ask(enter(local_aws, orders), "SELECT answer FROM rested") == (42,)
    assert [event for event, _, _ in told(events, 6)] == [
        *("RDS-EVENT-0087", "RDS-EVENT-0087", "RDS-EVENT-0150"),
        *("RDS-EVENT-0088", "RDS-EVENT-0088", "RDS-EVENT-0151"),
    ]


def test_restored_cluster_has_the_data_and_an_identity_of_its_own(
    local_aws: LocalAws, orders: str, bus: Callable[..., Bus]
) -> None:
    """From a snapshot and to a point in time, told as created: its members come afterwards."""
    rds = local_aws.client("rds")
    ask(enter(local_aws, orders), "CREATE TABLE saved AS SELECT 42 AS answer")
    rds.create_db_cluster_snapshot(DBClusterIdentifier=orders, DBClusterSnapshotIdentifier="before")
    ask(enter(local_aws, orders), "UPDATE saved SET answer = 43")
    events = bus({"source": ["aws.rds"], "detail": {"SourceType": ["CLUSTER"]}})

    rds.restore_db_cluster_from_snapshot(
        DBClusterIdentifier="copy", SnapshotIdentifier="before", Engine="aurora-postgresql"
    )
    rds.restore_db_cluster_to_point_in_time(
        DBClusterIdentifier="copied",
        SourceDBClusterIdentifier=orders,
        UseLatestRestorableTime=True,
    )
    restored = {name for event, _, name in told(events, 2) if event == "RDS-EVENT-0170"}
    for name in ("copy", "copied"):
        clusters.add_member(local_aws, name, f"{name}-1")
        clusters.wait_for(local_aws, name)

    assert restored == {"copy", "copied"}
    assert ask(enter(local_aws, "copy"), "SELECT answer FROM saved") == (42,)
    assert ask(enter(local_aws, "copied"), "SELECT answer FROM saved") == (43,)
    found = {
        clusters.describe(local_aws, name)["DbClusterResourceId"]
        for name in (orders, "copy", "copied")
    }
    assert len(found) == 3
    for name in ("copy", "copied"):
        clusters.remove(local_aws, name)


def test_cluster_keeps_its_data_while_members_go(local_aws: LocalAws, orders: str) -> None:
    """A reader takes over from a writer that is deleted; without any member the data waits."""
    ask(enter(local_aws, orders), "CREATE TABLE outlived AS SELECT 42 AS answer")
    first = writer(local_aws, orders)

    workflow.remove_instance(local_aws, first)
    wait_for(lambda: writer(local_aws, orders) != first, "another writer")
    wait_for(lambda: answers(local_aws, orders), "an answer of it")
    assert ask(enter(local_aws, orders), "SELECT answer FROM outlived") == (42,)
    workflow.remove_instance(local_aws, writer(local_aws, orders))
    wait_for(lambda: not answers(local_aws, orders), "no answer")
    for number in (1, 2):
        clusters.add_member(local_aws, orders, f"{orders}-{number}")
    clusters.wait_for(local_aws, orders)

    assert ask(enter(local_aws, orders), "SELECT answer FROM outlived") == (42,)


def answers(aws: LocalAws, cluster: str) -> bool:
    """Tell whether somebody serves *cluster*."""
    try:
        return bool(ask(enter(aws, cluster), "SELECT NOT pg_is_in_recovery()")[0])
    except psycopg2.OperationalError:
        return False


def test_sleeping_cluster_is_woken_by_who_connects(local_aws: LocalAws) -> None:
    """RDS has no status for it; the first connection waits until it is there again."""
    tags = {"day2-local:pause-seconds": "0.5", "day2-local:resume-seconds": "1"}
    clusters.create(
        local_aws,
        "sleepy",
        MasterUsername="boss",
        MasterUserPassword=PASSWORD,
        ServerlessV2ScalingConfiguration={"MinCapacity": 0, "MaxCapacity": 1},
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    found = clusters.wait_for(local_aws, "sleepy")

    def is_asleep() -> bool:
        return clusters.is_asleep(local_aws, "sleepy")

    wait_for(is_asleep, "its sleep")
    asleep = clusters.describe(local_aws, "sleepy")
    begin = time.monotonic()
    held = enter(local_aws, "sleepy")
    waited = time.monotonic() - begin
    time.sleep(1)
    stays_awake = not is_asleep()
    held.close()

    assert found["ServerlessV2ScalingConfiguration"]["MinCapacity"] == 0
    assert asleep["Status"] == "available"
    assert waited >= 1
    assert stays_awake
    wait_for(is_asleep, "its sleep again")
    clusters.remove(local_aws, "sleepy")


def test_multi_az_cluster_makes_its_members_itself(
    local_aws: LocalAws, bus: Callable[..., Bus]
) -> None:
    """Three of them, of which one is written to; they go with it."""
    events = bus({"source": ["aws.rds"]})

    clusters.create(
        local_aws,
        "spread",
        Engine="postgres",
        DBClusterInstanceClass="db.m6gd.large",
        AllocatedStorage=100,
        MasterUsername="boss",
        MasterUserPassword=PASSWORD,
    )
    found = clusters.wait_for(local_aws, "spread")
    names = [f"spread-instance-{number}" for number in (1, 2, 3)]

    assert [one["DBInstanceIdentifier"] for one in found["DBClusterMembers"]] == names
    assert sum(one["IsClusterWriter"] for one in found["DBClusterMembers"]) == 1
    assert ("RDS-EVENT-0170", "CLUSTER", "spread") in told(events, 4)
    followers = "SELECT count(*) FROM pg_stat_replication"
    # Only a member of pg_monitor, as the master is, sees all of them.
    wait_for(lambda: ask(enter(local_aws, "spread"), followers) == (2,), "two readers")

    clusters.remove(local_aws, "spread")
    assert {(event, source) for event, _, source in told(events, 4)} == {
        ("RDS-EVENT-0171", "spread"),
        *(("RDS-EVENT-0003", name) for name in names),
    }
