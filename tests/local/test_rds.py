"""An RDS instance of the local AWS is a real PostgreSQL server, and RDS's events are told."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from infra.local import workflow
from infra.local.local_aws import LocalAws
from infra.local.state import free_port
from tests.equipment.local_aws import Bus
from tests.local.entering import PASSWORD, ask, connect, managed_login


@pytest.fixture
def rds(local_aws: LocalAws) -> Iterator[Any]:
    """Return a client; the instances that a test leaves are deleted."""
    client = local_aws.client("rds")
    yield client
    for instance in client.describe_db_instances()["DBInstances"]:
        workflow.remove_instance(local_aws, instance["DBInstanceIdentifier"])


def create(rds: Any, name: str, **more: Any) -> dict[str, Any]:
    """Create an instance and return RDS's answer."""
    request = {
        "DBInstanceIdentifier": name,
        "Engine": "postgres",
        "DBInstanceClass": "db.t4g.micro",
        "AllocatedStorage": 20,
        "MasterUsername": "boss",
        **({} if "ManageMasterUserPassword" in more else {"MasterUserPassword": PASSWORD}),
        **more,
    }
    return dict(rds.create_db_instance(**request)["DBInstance"])


def test_instance_becomes_available_with_what_it_was_asked_for(
    local_aws: LocalAws, rds: Any, bus: Callable[..., Bus]
) -> None:
    """Creating without an endpoint, then available with one, and AWS's event on the bus."""
    events = bus({"source": ["aws.rds"]})
    tags = [{"Key": "day2", "Value": "enabled"}]

    asked = create(rds, "Orders", DBName="app", ManageMasterUserPassword=True, Tags=tags)
    instance = workflow.wait_for_instance(local_aws, "orders")
    event = events.next()

    assert asked["DBInstanceStatus"] == "creating"
    assert "Endpoint" not in asked
    assert instance["DBInstanceIdentifier"] == "orders"
    assert instance["TagList"] == tags
    assert instance["Endpoint"]["Address"] == "localhost"
    assert instance["DbiResourceId"] == asked["DbiResourceId"]
    user, password = managed_login(local_aws, instance)
    row = ask(
        connect(local_aws, instance, user, password),
        "SELECT current_user, current_database(), rolsuper, rolcreaterole, rolcreatedb,"
        " pg_has_role('rds_superuser', 'MEMBER'), pg_get_userbyid(datdba)"
        " FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()",
    )
    assert row == ("boss", "app", False, True, True, True, "boss")
    date = event["detail"].pop("Date")
    assert time.strptime(date, "%Y-%m-%dT%H:%M:%S.%fZ")
    assert event["detail-type"] == "RDS DB Instance Event"
    assert event["account"] == "000000000000"
    assert event["resources"] == [instance["DBInstanceArn"]]
    assert event["detail"] == {
        "EventCategories": ["creation"],
        "SourceType": "DB_INSTANCE",
        "SourceArn": instance["DBInstanceArn"],
        "Message": "DB instance created",
        "SourceIdentifier": "orders",
        "EventID": "RDS-EVENT-0005",
    }


def test_two_instances_share_nothing(local_aws: LocalAws, rds: Any) -> None:
    """Each has a server, and so roles, of its own; and an identity of its own."""
    names = ("left", "right")
    for name in names:
        create(rds, name)
    left, right = (workflow.wait_for_instance(local_aws, name) for name in names)

    ask(connect(local_aws, left), "CREATE ROLE only_left")

    query = "SELECT count(*) FROM pg_roles WHERE rolname = 'only_left'"
    assert ask(connect(local_aws, left), query) == (1,)
    assert ask(connect(local_aws, right), query) == (0,)
    assert left["DbiResourceId"] != right["DbiResourceId"]
    assert left["Endpoint"]["Port"] != right["Endpoint"]["Port"]


@pytest.mark.parametrize(
    ("engine_version", "refusal"),
    [(None, "no encryption"), ("18", "no encryption")],
    ids=["usual PostgreSQL", "PostgreSQL behind the TLS front"],
)
def test_only_verified_tls_gets_in(
    local_aws: LocalAws, rds: Any, engine_version: str | None, refusal: str
) -> None:
    """Plain connections and wrong names are refused, and a wrong password too."""
    create(rds, "orders", **({"EngineVersion": engine_version} if engine_version else {}))
    instance = workflow.wait_for_instance(local_aws, "orders")

    assert ask(connect(local_aws, instance), "SELECT 1") == (1,)
    with pytest.raises(psycopg2.OperationalError, match=refusal):
        connect(local_aws, instance, sslmode="disable")
    with pytest.raises(psycopg2.OperationalError, match="does not match host name"):
        connect(local_aws, instance, host="elsewhere", hostaddr="127.0.0.1")
    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        connect(local_aws, instance, sslrootcert="system")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(local_aws, instance, password="another")


def test_new_passwords_are_the_servers_too(local_aws: LocalAws, rds: Any) -> None:
    """Given, managed, rotated: each time the new one logs in and the old one no longer does."""
    create(rds, "orders")
    instance = workflow.wait_for_instance(local_aws, "orders")
    logins = [("boss", PASSWORD)]

    def modify(**change: Any) -> None:
        changed = rds.modify_db_instance(
            DBInstanceIdentifier="orders", ApplyImmediately=True, **change
        )["DBInstance"]
        given = change.get("MasterUserPassword")
        logins.append(("boss", given) if given else managed_login(local_aws, changed))

    modify(MasterUserPassword="brand-new-1")
    modify(ManageMasterUserPassword=True)
    modify(RotateMasterUserPassword=True)

    assert len(set(logins)) == 4
    assert ask(connect(local_aws, instance, *logins[-1]), "SELECT 1") == (1,)
    for login in logins[:-1]:
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            connect(local_aws, instance, *login)


def test_stopped_instance_keeps_its_data_and_port(
    local_aws: LocalAws, rds: Any, bus: Callable[..., Bus]
) -> None:
    """Stop, start: refused meanwhile, the same afterwards, and both told on the bus."""
    create(rds, "orders")
    instance = workflow.wait_for_instance(local_aws, "orders")
    ask(connect(local_aws, instance), "CREATE TABLE kept AS SELECT 42 AS answer")
    events = bus({"source": ["aws.rds"], "detail": {"EventCategories": ["notification"]}})

    rds.stop_db_instance(DBInstanceIdentifier="orders")
    stopped = events.next()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        connect(local_aws, instance)
    rds.start_db_instance(DBInstanceIdentifier="orders")
    started = events.next()

    assert [stopped["detail"]["EventID"], started["detail"]["EventID"]] == [
        "RDS-EVENT-0087",
        "RDS-EVENT-0088",
    ]
    again = workflow.wait_for_instance(local_aws, "orders")
    assert again["Endpoint"] == instance["Endpoint"]
    assert ask(connect(local_aws, again), "SELECT answer FROM kept") == (42,)


def test_restored_instance_has_the_data_and_a_secret_of_its_own(
    local_aws: LocalAws, rds: Any, bus: Callable[..., Bus]
) -> None:
    """From a snapshot and to a point in time; its events are not those of a new instance."""
    create(rds, "orders", ManageMasterUserPassword=True)
    instance = workflow.wait_for_instance(local_aws, "orders")
    login = managed_login(local_aws, instance)
    ask(connect(local_aws, instance, *login), "CREATE TABLE kept AS SELECT 42 AS answer")
    events = bus({"source": ["aws.rds"], "detail": {"EventCategories": ["restoration"]}})

    rds.create_db_snapshot(DBInstanceIdentifier="orders", DBSnapshotIdentifier="before")
    ask(connect(local_aws, instance, *login), "UPDATE kept SET answer = 43")
    rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier="restored", DBSnapshotIdentifier="before"
    )
    rds.restore_db_instance_to_point_in_time(
        SourceDBInstanceIdentifier="orders",
        TargetDBInstanceIdentifier="copied",
        UseLatestRestorableTime=True,
    )
    told = {
        event["detail"]["SourceIdentifier"]: event["detail"]["EventID"]
        for event in (events.next(), events.next())
    }

    assert told == {"restored": "RDS-EVENT-0043", "copied": "RDS-EVENT-0019"}
    for name, answer in (("restored", 42), ("copied", 43)):
        restored = workflow.wait_for_instance(local_aws, name)
        own = managed_login(local_aws, restored)
        assert own != login
        assert restored["DbiResourceId"] != instance["DbiResourceId"]
        assert ask(connect(local_aws, restored, *own), "SELECT answer FROM kept") == (answer,)


def test_deleted_instance_is_gone_with_its_server(
    local_aws: LocalAws, rds: Any, bus: Callable[..., Bus]
) -> None:
    """Its port is closed and its folder removed when the event says so."""
    create(rds, "orders")
    instance = workflow.wait_for_instance(local_aws, "orders")
    events = bus({"source": ["aws.rds"], "detail": {"EventCategories": ["deletion"]}})

    with pytest.raises(rds.exceptions.ClientError, match="is required unless SkipFinalSnapshot"):
        rds.delete_db_instance(DBInstanceIdentifier="orders")
    rds.delete_db_instance(DBInstanceIdentifier="orders", SkipFinalSnapshot=True)

    assert events.next()["detail"]["EventID"] == "RDS-EVENT-0003"
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        connect(local_aws, instance)
    assert not (local_aws.state.servers / instance["DbiResourceId"]).exists()
    with pytest.raises(rds.exceptions.DBInstanceNotFoundFault):
        rds.describe_db_instances(DBInstanceIdentifier="orders")


def test_instance_can_be_held_in_creating(local_aws: LocalAws, rds: Any) -> None:
    """By a tag, for those who test what waits for an instance."""
    held = [{"Key": "day2-local:creating-seconds", "Value": "3"}]

    begin = time.monotonic()
    create(rds, "orders", Tags=held)
    meanwhile = rds.describe_db_instances(DBInstanceIdentifier="orders")["DBInstances"][0]
    workflow.wait_for_instance(local_aws, "orders")

    assert meanwhile["DBInstanceStatus"] == "creating"
    assert "Endpoint" not in meanwhile
    assert time.monotonic() - begin >= 3


def test_replicas_and_other_engines_have_no_server(local_aws: LocalAws, rds: Any) -> None:
    """They can be described, and nobody listens at their endpoints."""
    create(rds, "orders")
    workflow.wait_for_instance(local_aws, "orders")
    rds.create_db_instance_read_replica(
        DBInstanceIdentifier="replica", SourceDBInstanceIdentifier="orders"
    )
    create(rds, "mysql", Engine="mysql")
    rds.create_db_cluster(
        DBClusterIdentifier="cluster",
        Engine="aurora-mysql",
        MasterUsername="boss",
        ManageMasterUserPassword=True,
    )
    rds.create_db_instance(
        DBInstanceIdentifier="member",
        Engine="aurora-mysql",
        DBInstanceClass="db.r6g.large",
        DBClusterIdentifier="cluster",
    )

    found = {
        name: workflow.wait_for_instance(local_aws, name) for name in ("replica", "mysql", "member")
    }

    assert found["replica"]["ReadReplicaSourceDBInstanceIdentifier"] == "orders"
    assert found["member"]["DBClusterIdentifier"] == "cluster"
    for instance in found.values():
        with pytest.raises(psycopg2.OperationalError, match="refused"):
            connect(local_aws, instance)


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ({"EngineVersion": "bogus"}, "InvalidParameterCombination", "Cannot find version bogus"),
        ({"EngineVersion": "15.1"}, "InvalidParameterCombination", "Cannot find version 15.1"),
        ({"EngineVersion": "13"}, "InvalidParameterCombination", "Cannot find version 13"),
        ({"DBInstanceIdentifier": "db.nope"}, "InvalidParameterValue", "not a valid identifier"),
        ({"DBInstanceIdentifier": "no--pe"}, "InvalidParameterValue", "not a valid identifier"),
        ({"DBInstanceIdentifier": "nope-"}, "InvalidParameterValue", "not a valid identifier"),
        ({"DBInstanceIdentifier": "1nope"}, "InvalidParameterValue", "not a valid identifier"),
        ({"DBInstanceIdentifier": "n" * 64}, "InvalidParameterValue", "not a valid identifier"),
        ({"DBInstanceClass": "db.nope"}, "InvalidParameterValue", "Instance class: db.nope"),
        ({"AllocatedStorage": 1}, "InvalidParameterValue", "storage type gp2: 1"),
        ({"AllocatedStorage": 99, "StorageType": "io1"}, "InvalidParameterValue", "io1: 99"),
        ({"StorageType": "floppy"}, "InvalidParameterValue", "Invalid storage type: floppy"),
        ({"MasterUserPassword": "short"}, "InvalidParameterValue", "shorter than 8"),
        ({"MasterUserPassword": "n" * 129}, "InvalidParameterValue", "longer than 128"),
        ({"MasterUserPassword": "not/this"}, "InvalidParameterValue", "Only printable ASCII"),
        ({"MasterUserPassword": 'not"this'}, "InvalidParameterValue", "Only printable ASCII"),
        ({"MasterUserPassword": "not@this"}, "InvalidParameterValue", "Only printable ASCII"),
        ({"MasterUserPassword": "not this"}, "InvalidParameterValue", "Only printable ASCII"),
        ({"MasterUserPassword": "söhnchen"}, "InvalidParameterValue", "Only printable ASCII"),
        ({"MasterUsername": "rdsadmin"}, "InvalidParameterValue", "reserved word"),
        ({"MasterUsername": "1boss"}, "InvalidParameterValue", "MasterUsername must begin"),
        ({"MasterUsername": 'bo"ss'}, "InvalidParameterValue", "MasterUsername must begin"),
        ({"MasterUsername": "b" * 64}, "InvalidParameterValue", "MasterUsername must begin"),
        ({"MasterUsername": "User"}, "InvalidParameterValue", "reserved word"),
        ({"MasterUsername": "pg_boss"}, "InvalidParameterValue", "reserved word"),
        ({"DBName": "no-pe"}, "InvalidParameterValue", "DBName must begin with a letter"),
        ({"DBName": "_shop"}, "InvalidParameterValue", "DBName must begin with a letter"),
        ({"DBName": "select"}, "InvalidParameterValue", "reserved word"),
        ({"DBName": "template1"}, "InvalidParameterValue", "reserved word"),
        ({"Port": 1149}, "InvalidParameterValue", "between 1150 and 65535"),
        ({"Port": 65536}, "InvalidParameterValue", "between 1150 and 65535"),
        ({"BackupRetentionPeriod": 36}, "InvalidParameterValue", "between 0 and 35"),
        (
            {"StorageType": "gp3", "Iops": 3000},
            "InvalidParameterCombination",
            "and a storage size less than 400",
        ),
        (
            {"DBParameterGroupName": "default.postgres14", "EngineVersion": "18"},
            "InvalidParameterCombination",
            "Please use a Parameter Group with DBParameterGroupFamily postgres18",
        ),
        (
            {"MasterUserPassword": "long-enough", "ManageMasterUserPassword": True},
            "InvalidParameterCombination",
            "You can't specify MasterUserPassword",
        ),
    ],
    ids=str,
)
def test_what_rds_refuses_is_refused(
    local_aws: LocalAws, rds: Any, asked: dict[str, Any], code: str, said: str
) -> None:
    """With RDS's own code and words; no instance is there, and no secret of one."""
    secrets = local_aws.client("secretsmanager")
    before = secrets.list_secrets()["SecretList"]
    name = asked.pop("DBInstanceIdentifier", "refused")
    managed = {"ManageMasterUserPassword": "MasterUserPassword" not in asked}

    with pytest.raises(rds.exceptions.ClientError, match=re.escape(said)) as caught:
        create(rds, name, **managed | asked)

    assert caught.value.response["Error"]["Code"] == code
    assert rds.describe_db_instances()["DBInstances"] == []
    assert secrets.list_secrets()["SecretList"] == before


def test_a_version_is_the_one_that_runs(local_aws: LocalAws, rds: Any) -> None:
    """Told before, asked for by its major, kept, and not changed into another by a mere wish."""
    told = rds.describe_db_engine_versions(Engine="postgres")["DBEngineVersions"]
    (usual,) = rds.describe_db_engine_versions(Engine="postgres", DefaultOnly=True)[
        "DBEngineVersions"
    ]
    version, major = usual["EngineVersion"], usual["MajorEngineVersion"]
    another = next(one["EngineVersion"] for one in told if one["MajorEngineVersion"] != major)

    assert version in [one["EngineVersion"] for one in told]
    asked = create(rds, "orders", EngineVersion=major)
    instance = workflow.wait_for_instance(local_aws, "orders")
    assert asked["EngineVersion"] == instance["EngineVersion"]
    assert instance["EngineVersion"] in [
        one["EngineVersion"] for one in told if one["MajorEngineVersion"] == major
    ]
    running = ask(connect(local_aws, instance), "SHOW server_version")
    assert running[0].split()[0] == instance["EngineVersion"]

    rds.modify_db_instance(DBInstanceIdentifier="orders", EngineVersion=major)
    with pytest.raises(rds.exceptions.ClientError, match="Cannot upgrade postgres from") as caught:
        rds.modify_db_instance(DBInstanceIdentifier="orders", EngineVersion=another)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterCombination"
    again = workflow.wait_for_instance(local_aws, "orders")
    assert again["EngineVersion"] == instance["EngineVersion"]


def test_orderable_options_are_of_the_versions_that_are_there(rds: Any) -> None:
    """Page by page; and what may be ordered is created."""
    (usual,) = rds.describe_db_engine_versions(Engine="postgres", DefaultOnly=True)[
        "DBEngineVersions"
    ]
    pages = rds.get_paginator("describe_orderable_db_instance_options").paginate(
        Engine="postgres", EngineVersion=usual["EngineVersion"]
    )
    options = [one for page in pages for one in page["OrderableDBInstanceOptions"]]

    assert {one["EngineVersion"] for one in options} == {usual["EngineVersion"]}
    found = [(one["DBInstanceClass"], one["StorageType"]) for one in options]
    assert len(found) == len(set(found)) > 100
    assert ("db.t4g.micro", "gp3") in found


def test_settings_are_kept_as_they_were_given(local_aws: LocalAws, rds: Any) -> None:
    """Parameter group, insights, monitoring and port, at first and after a change."""
    rds.create_db_parameter_group(
        DBParameterGroupName="own", DBParameterGroupFamily="postgres15", Description="ours"
    )
    value = {"ParameterName": "log_min_duration_statement", "ParameterValue": "500"}
    rds.modify_db_parameter_group(
        DBParameterGroupName="own", Parameters=[value | {"ApplyMethod": "immediate"}]
    )
    (parameter,) = rds.describe_db_parameters(DBParameterGroupName="own", Source="user")[
        "Parameters"
    ]
    assert parameter["ParameterValue"] == "500"
    assert parameter["Source"] == "user"

    tags = [{"Key": "team", "Value": "shop"}]
    group = rds.create_db_cluster_parameter_group(
        DBClusterParameterGroupName="own",
        DBParameterGroupFamily="aurora-postgresql15",
        Description="ours",
        Tags=tags,
    )["DBClusterParameterGroup"]
    found = rds.list_tags_for_resource(ResourceName=group["DBClusterParameterGroupArn"])
    rds.delete_db_cluster_parameter_group(DBClusterParameterGroupName="own")
    assert found["TagList"] == tags

    port = free_port()
    create(
        rds,
        "orders",
        Port=port,
        DBParameterGroupName="own",
        EnablePerformanceInsights=True,
        MonitoringInterval=60,
    )
    first = workflow.wait_for_instance(local_aws, "orders")
    rds.modify_db_instance(DBInstanceIdentifier="orders", EnablePerformanceInsights=False)
    second = workflow.wait_for_instance(local_aws, "orders")
    rds.delete_db_instance(DBInstanceIdentifier="orders", SkipFinalSnapshot=True)
    rds.delete_db_parameter_group(DBParameterGroupName="own")

    assert first["DBParameterGroups"][0]["DBParameterGroupName"] == "own"
    assert first["Endpoint"]["Port"] == port
    assert first["PerformanceInsightsEnabled"] is True
    assert first["PerformanceInsightsRetentionPeriod"] == 7
    assert first["MonitoringInterval"] == 60
    assert second["PerformanceInsightsEnabled"] is False


def test_a_customer_key_encrypts(local_aws: LocalAws, rds: Any) -> None:
    """As teams that keep keys of their own have it, whatever Python runs the local AWS."""
    kms, secrets = local_aws.client("kms"), local_aws.client("secretsmanager")
    key = kms.create_key()["KeyMetadata"]
    secrets.create_secret(Name="by-key", KmsKeyId=key["KeyId"], SecretString="kept")
    create(
        rds,
        "by-key",
        ManageMasterUserPassword=True,
        MasterUserSecretKmsKeyId=key["KeyId"],
        Tags=[{"Key": "day2-local:no-server", "Value": "true"}],
    )

    (made,) = rds.describe_db_instances(DBInstanceIdentifier="by-key")["DBInstances"]
    found = secrets.get_secret_value(SecretId="by-key")["SecretString"]
    rds.delete_db_instance(DBInstanceIdentifier="by-key", SkipFinalSnapshot=True)
    secrets.delete_secret(SecretId="by-key", ForceDeleteWithoutRecovery=True)
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)

    assert found == "kept"
    assert made["MasterUserSecret"]["KmsKeyId"] == key["Arn"]
