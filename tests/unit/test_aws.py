"""The door to AWS, against botocore's own stubs: what is asked, read and translated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from botocore.stub import ANY, Stubber

from core.aws.account import Aws
from core.aws.failures import calling
from core.budget import Budget
from core.errors import (
    AccessDenied,
    InvalidField,
    MigrationError,
    NoSuchInstance,
    NotFound,
    NotReady,
    NoValue,
    OutOfReach,
    Rejected,
    RunFailed,
)
from core.model import (
    Declared,
    ManagedDatabase,
    ManagedSecret,
    ObservedState,
    Parameters,
    Secret,
    TargetSource,
)
from core.settings import Settings
from tests.conftest import ROOT

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:orders-master-AbCdEf"
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


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """Give botocore a region and credentials of nobody, so that it looks for none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.delenv("AWS_PROFILE", raising=False)
        yield


@pytest.fixture(scope="module")
def shared(environment: None) -> Aws:  # noqa: ARG001 - wanted for what it sets
    """Return the AWS of a whole module: its clients are slow to make."""
    return Aws(Settings())


def set_to(shared: Aws, settings: Settings) -> Aws:
    """Return *shared* with other settings, and its clients."""
    other = Aws(settings, session=shared._session)
    other._clients = shared._clients
    return other


@pytest.fixture
def aws(shared: Aws) -> Aws:
    """Return the AWS under test, whose every call must be stubbed, and is tried once."""
    return shared.within(Budget.of(0))


@pytest.fixture
def stub(shared: Aws) -> Iterator[Callable[[str], Stubber]]:
    """Stub a service until the test ends, when all that was expected must have been asked."""
    with ExitStack() as stack:
        stubs: dict[str, Stubber] = {}

        def of(service: str) -> Stubber:
            if service not in stubs:
                stubs[service] = stack.enter_context(Stubber(shared._client(service)))
            return stubs[service]

        yield of
        for used in stubs.values():
            used.assert_no_pending_responses()


Stub = Callable[[str], Stubber]


def parameter(name: str, value: str, kind: str = "String") -> dict[str, str]:
    """Return a parameter as SSM answers it."""
    return {"Name": name, "Value": value, "Type": kind}


# Instances


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


# Parameters


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], Parameters()),
        (
            [parameter("/day2/orders/target-revision", "003\n")],
            Parameters(Declared("003\n", TargetSource.PARAMETER, "/day2/orders/target-revision")),
        ),
        (
            [parameter("/day2/_fleet/target-revision", "head")],
            Parameters(Declared("head", TargetSource.FLEET, "/day2/_fleet/target-revision")),
        ),
        (
            [
                parameter("/day2/_fleet/target-revision", "head"),
                parameter("/day2/orders/target-revision", "003", "SecureString"),
                parameter("/day2/orders/observed-state", STATE_TEXT),
            ],
            Parameters(
                Declared(
                    "003", TargetSource.PARAMETER, "/day2/orders/target-revision", "SecureString"
                ),
                STATE,
            ),
        ),
    ],
)
def test_the_parameters_of_an_instance_are_one_call(
    found: list[dict[str, str]], expected: Parameters, aws: Aws, stub: Stub
) -> None:
    """The instance's own target goes before the fleet's; the state comes with it."""
    names = [
        "/day2/orders/target-revision",
        "/day2/_fleet/target-revision",
        "/day2/orders/observed-state",
    ]
    stub("ssm").add_response("get_parameters", {"Parameters": found}, {"Names": names})

    assert aws.parameters("orders") == expected


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "7", "{}", '{"at": 7}',
     STATE_TEXT.replace("2026", "MMXXVI")],
)  # fmt: skip
def test_a_state_that_somebody_else_wrote_is_no_state(text: str, aws: Aws, stub: Stub) -> None:
    """A state is a hint; one that cannot be read means that nothing is known."""
    entry = parameter("/day2/orders/observed-state", text)
    stub("ssm").add_response("get_parameters", {"Parameters": [entry]})

    assert aws.parameters("orders") == Parameters(has_strange_state=True)


def test_all_parameters_are_read_page_by_page(aws: Aws, stub: Stub) -> None:
    """Each instance under the prefix is told with its target, else the fleet's."""
    path = {"Path": "/day2/", "Recursive": True}
    pages = [
        [
            parameter("/day2/orders/target-revision", "003"),
            parameter("/day2/orders/observed-state", STATE_TEXT),
            parameter("/day2/orders/deeper/target-revision", "001"),
        ],
        [
            parameter("/day2/_fleet/target-revision", "002"),
            parameter("/day2/billing/observed-state", STATE_TEXT),
        ],
    ]
    stub("ssm").add_response(
        "get_parameters_by_path", {"Parameters": pages[0], "NextToken": "next"}, path
    )
    stub("ssm").add_response(
        "get_parameters_by_path", {"Parameters": pages[1]}, path | {"NextToken": "next"}
    )

    fleet = Declared("002", TargetSource.FLEET, "/day2/_fleet/target-revision")
    assert aws.all_parameters() == {
        "_fleet": Parameters(fleet),
        "billing": Parameters(fleet, STATE),
        "orders": Parameters(
            Declared("003", TargetSource.PARAMETER, "/day2/orders/target-revision"), STATE
        ),
    }


def test_a_state_is_written_as_it_is_read(aws: Aws, stub: Stub) -> None:
    """What is kept is the JSON that the next run understands."""
    stub("ssm").add_response(
        "put_parameter",
        {"Version": 1},
        {
            "Name": "/day2/orders/observed-state",
            "Type": "String",
            "Overwrite": True,
            "Value": STATE_TEXT,
        },
    )

    aws.write_observed("orders", STATE)


# Secrets


def test_a_secret_is_read_at_its_stage(aws: Aws, stub: Stub) -> None:
    """The name and ARN are the secret's own, whichever of them was asked for."""
    stub("secretsmanager").add_response(
        "get_secret_value",
        {"Name": "orders-master", "ARN": ARN, "SecretString": "{}"},
        {"SecretId": ARN, "VersionStage": "AWSPENDING"},
    )

    assert aws.secret(ARN, stage="AWSPENDING") == Secret("orders-master", ARN, "{}")


def test_a_binary_secret_is_refused(aws: Aws, stub: Stub) -> None:
    """Master secrets are JSON text."""
    stub("secretsmanager").add_response(
        "get_secret_value", {"Name": "orders-master", "ARN": ARN, "SecretBinary": b"x"}
    )

    with pytest.raises(InvalidField) as caught:
        aws.secret("orders-master")

    assert str(caught.value) == ("secret orders-master: is binary: store JSON as its SecretString")


def test_login_secrets_are_listed_by_name_and_tag_page_by_page(aws: Aws, stub: Stub) -> None:
    """A hundred a call, and none of somebody else's."""
    tag = {"Key": "day2:dbi-resource-id", "Value": "db-ORDERS"}
    asked = {
        "MaxResults": 100,
        "Filters": [
            {"Key": "name", "Values": ["day2/"]},
            {"Key": "tag-key", "Values": ["day2:dbi-resource-id"]},
        ],
    }
    names = ["day2/orders/app_user", "day2/orders/backup_user"]
    for name, asks, more in (
        (names[0], asked, {"NextToken": "next"}),
        (names[1], asked | {"NextToken": "next"}, {}),
    ):
        listed = {"SecretList": [{"Name": name, "Tags": [tag]}], **more}
        stub("secretsmanager").add_response("list_secrets", listed, asks)

    assert list(aws.login_secrets()) == [(name, {tag["Key"]: tag["Value"]}) for name in names]


@pytest.mark.parametrize("versions", [{}, {"v" * 32: ["AWSPENDING"]}])
def test_a_secret_without_a_value_is_told_from_one_that_is_not_there(
    versions: dict[str, list[str]], aws: Aws, stub: Stub
) -> None:
    """A template makes it ahead; AWS has the same code for both when its value is asked for."""
    found = {"Tags": [], "VersionIdsToStages": versions} if versions else {"Tags": []}
    stub("secretsmanager").add_response("describe_secret", found, {"SecretId": ARN})

    with pytest.raises(NoValue):
        aws.secret_tags(ARN)


@pytest.mark.parametrize(("key", "extra"), [("", {}), ("arn:key", {"KmsKeyId": "arn:key"})])
def test_a_secret_is_made_under_the_stacks_key(
    key: str, extra: dict[str, str], stub: Stub, shared: Aws
) -> None:
    """Without a key of its own the stack uses that of Secrets Manager."""
    stub("secretsmanager").add_response(
        "create_secret",
        {},
        {
            "Name": "day2/orders/app_user",
            "ClientRequestToken": ANY,
            "Description": "a login",
            "SecretString": "{}",
            "Tags": [{"Key": "day2:unset", "Value": "true"}],
            **extra,
        },
    )

    set_to(shared, Settings(secret_kms_key_id=key)).create_secret(
        "day2/orders/app_user", "{}", description="a login", tags={"day2:unset": "true"}
    )


def test_a_secret_is_changed_and_tagged(aws: Aws, stub: Stub) -> None:
    """Each change is the one call that the role allows."""
    of = {"SecretId": "day2/orders/app_user"}
    stub("secretsmanager").add_response(
        "put_secret_value", {}, of | {"SecretString": "{}", "ClientRequestToken": ANY}
    )
    stub("secretsmanager").add_response(
        "tag_resource", {}, of | {"Tags": [{"Key": "day2:retired", "Value": "now"}]}
    )
    stub("secretsmanager").add_response("untag_resource", {}, of | {"TagKeys": ["day2:unset"]})

    aws.put_secret("day2/orders/app_user", "{}")
    aws.tag_secret("day2/orders/app_user", {"day2:retired": "now"})
    aws.untag_secret("day2/orders/app_user", "day2:unset")


def test_an_authentication_token_names_who_and_where(aws: Aws) -> None:
    """The token is signed here; nothing is sent."""
    token = aws.auth_token("orders.example", 5432, "master")

    assert token.startswith("orders.example:5432/?Action=connect&DBUser=master&")


# Patience


def patient(pauses: list[float], seconds: float = 300.0) -> Budget:
    """Return a budget of *seconds* that only remembers its *pauses*."""
    return Budget(lambda: seconds - sum(pauses), 0, pauses.append)


BUSY = [("ThrottlingException", 400), ("InternalServiceError", 500), ("NobodyKnows", 502)]


@pytest.mark.parametrize(("code", "status"), BUSY)
def test_what_is_busy_is_asked_again(code: str, status: int, aws: Aws, stub: Stub) -> None:
    """A fleet's runs end together, and Parameter Store takes three writes a second."""
    pauses: list[float] = []
    for _ in range(6):
        stub("ssm").add_client_error("put_parameter", code, "", status)
    stub("ssm").add_response("put_parameter", {})

    aws.within(patient(pauses)).write_observed("orders", STATE)

    assert len(pauses) == 6


def test_patience_ends_with_the_budget(aws: Aws, stub: Stub) -> None:
    """A run is not killed over a call that would have been asked for ever."""
    pauses: list[float] = []
    for _ in range(100):
        stub("ssm").add_client_error("put_parameter", "ThrottlingException")

    with pytest.raises(NotReady):
        aws.within(patient(pauses, seconds=60)).write_observed("orders", STATE)

    assert 50 < sum(pauses) <= 60
    # What is left over was never asked for.
    vars(stub("ssm"))["_queue"].clear()


def test_what_is_out_of_reach_is_told_within_a_minute(aws: Aws) -> None:
    """A network that leads nowhere is not mended by waiting for as long as a function may run."""
    pauses: list[float] = []
    limited = aws.within(patient(pauses, seconds=900))

    def nothing() -> None:
        raise EndpointConnectionError(endpoint_url="https://rds.us-east-1.amazonaws.com")

    with pytest.raises(OutOfReach):
        limited._call("rds:DescribeDBInstances", "all instances", nothing)

    # Each try may take three seconds more.
    assert len(pauses) == 9
    assert sum(pauses) < 30


def test_a_page_that_is_busy_is_asked_again_alone(aws: Aws, stub: Stub) -> None:
    """Who reads a large fleet does not begin anew."""
    rds = stub("rds")
    rds.add_response("describe_db_instances", {"DBInstances": [], "Marker": "2"}, {})
    rds.add_client_error("describe_db_instances", "Throttling")
    rds.add_response("describe_db_instances", {"DBInstances": [DB_INSTANCE]}, {"Marker": "2"})

    found = list(aws.within(patient([])).instances())

    assert [one.identifier for one in found] == ["orders"]


def test_a_secret_is_made_once_however_often_it_is_asked_for(aws: Aws, stub: Stub) -> None:
    """Where only the answer was lost, the same token finds it done."""
    tokens: list[str] = []

    class Client:
        def create_secret(self, **fields: Any) -> dict[str, Any]:
            tokens.append(fields["ClientRequestToken"])
            if len(tokens) == 1:
                raise ClientError({"Error": {"Code": "InternalServiceError"}}, "CreateSecret")
            return {}

    assert stub
    limited = aws.within(patient([]))
    limited._clients = {"secretsmanager": Client()}
    limited.create_secret("day2/orders/app_user", "{}", description="a login", tags={})

    assert len(tokens) == 2
    assert len(set(tokens)) == 1


# Events


def entries(*numbers: int) -> dict[str, list[dict[str, str]]]:
    """Return a batch of requests as PutEvents takes it."""
    return {
        "Entries": [
            {
                "Source": "day2",
                "DetailType": "Migration Requested",
                "Detail": json.dumps({"instance": f"db-{number}"}),
            }
            for number in numbers
        ]
    }


def answer(*codes: str | None) -> dict[str, Any]:
    """Return what PutEvents answers, by each entry's error code."""
    return {
        "FailedEntryCount": sum(code is not None for code in codes),
        "Entries": [{"ErrorCode": code} if code else {"EventId": "1"} for code in codes],
    }


def details(count: int) -> list[dict[str, object]]:
    """Return that many requests."""
    return [{"instance": f"db-{number}"} for number in range(count)]


def test_events_are_put_in_batches_of_ten(aws: Aws, stub: Stub) -> None:
    """EventBridge takes ten entries a call."""
    stub("events").add_response("put_events", answer(*[None] * 10), entries(*range(10)))
    stub("events").add_response("put_events", answer(None, None), entries(10, 11))

    aws.put_events("Migration Requested", details(12))


def test_no_events_are_no_call(aws: Aws, stub: Stub) -> None:
    """A quiet sweep puts nothing on the bus."""
    stub("events")

    aws.put_events("Migration Requested", [])


def test_a_refused_entry_is_put_again_alone(aws: Aws, stub: Stub) -> None:
    """PutEvents does not raise: its answer counts what it refused, and only that is repeated."""
    pauses: list[float] = []
    codes = (None, "ThrottlingException", "InternalFailure")
    stub("events").add_response("put_events", answer(*codes), entries(0, 1, 2))
    stub("events").add_response("put_events", answer(None, "InternalFailure"), entries(1, 2))
    stub("events").add_response("put_events", answer(None), entries(2))

    aws.within(patient(pauses)).put_events("Migration Requested", details(3))

    assert len(pauses) == 2


def test_a_refused_entry_keeps_nobody_waiting(aws: Aws, stub: Stub) -> None:
    """What comes behind it is put first; then what was refused, with patience."""
    codes = [None] * 9 + ["InternalFailure"]
    stub("events").add_response("put_events", answer(*codes), entries(*range(10)))
    stub("events").add_response("put_events", answer(None, None), entries(10, 11))
    stub("events").add_response("put_events", answer(None), entries(9))

    aws.within(patient([])).put_events("Migration Requested", details(12))


def test_a_busy_bus_is_asked_for_as_long_as_there_is_time(aws: Aws, stub: Stub) -> None:
    """As every other service; and a request that is not on the bus is never taken for one."""
    pauses: list[float] = []
    for _ in range(100):
        stub("events").add_response("put_events", answer("ThrottlingException", "InternalFailure"))

    with pytest.raises(NotReady) as caught:
        aws.within(patient(pauses, seconds=60)).put_events("Migration Requested", details(2))

    assert str(caught.value) == "the event bus refused 2 event(s): try again later"
    assert 50 < sum(pauses) <= 60
    vars(stub("events"))["_queue"].clear()


def test_entries_refused_for_good_are_an_error(aws: Aws, stub: Stub) -> None:
    """What no patience mends is told at once, with its code."""
    stub("events").add_response("put_events", answer(None, "NotAuthorizedForSourceException"))

    with pytest.raises(RunFailed) as caught:
        aws.within(patient([])).put_events("Migration Requested", details(2))

    assert str(caught.value) == "the event bus refused 1 event(s): NotAuthorizedForSourceException"


# Errors

CALL = "secretsmanager:GetSecretValue"
NAME = "secret orders-master"
DENIED = (
    f"{CALL} is denied for {NAME}: check its name, or allow it to the function's role, "
    "and kms:Decrypt where a customer key is used (because)"
)
DELETED = f"{NAME} cannot be used (because): restore it if it is scheduled for deletion"
MISSING = f"{NAME} does not exist, or has no value yet ({CALL}): check its name"
CODES = [
    ("AccessDeniedException", AccessDenied, DENIED),
    ("AccessDenied", AccessDenied, DENIED),
    ("ResourceNotFoundException", NotFound, MISSING),
    ("ThrottlingException", NotReady, f"{CALL} is busy (ThrottlingException): try again later"),
    ("InternalServiceError", NotReady, f"{CALL} is busy (InternalServiceError): try again later"),
    ("InvalidRequestException", Rejected, DELETED),
    (
        "ValidationException",
        Rejected,
        f"{NAME} is not a valid name for {CALL} (ValidationException)",
    ),
    ("SomethingNew", RunFailed, f"{CALL} for {NAME} failed: SomethingNew"),
]


@pytest.mark.parametrize(("code", "kind", "message"), CODES)
def test_what_aws_refuses_is_translated(
    code: str, kind: type[MigrationError], message: str, aws: Aws, stub: Stub
) -> None:
    """The error says which call on which thing, and what would help."""
    stub("secretsmanager").add_client_error("get_secret_value", code, "because", 400)

    with pytest.raises(kind) as caught:
        aws.secret("orders-master")

    assert (type(caught.value), str(caught.value)) == (kind, message)


# Each error that AWS's own description of a call of ours names, by what it means to a run.
KNOWN: dict[type[MigrationError], str] = {
    NotReady: """InternalError InternalException InternalServerError InternalServiceError
        KMSThrottling KmsThrottled RequestThrottled TooManyUpdates""",
    AccessDenied: """AuthorizationError DecryptionFailure EncryptionFailure KMSAccessDenied
        KMSDisabled KMSInvalidState KMSNotFound KMSOptInRequired KmsAccessDenied KmsDisabled
        KmsInvalidKeyUsage KmsInvalidState KmsNotFound KmsOptInRequired""",
    NotFound: """BlueGreenDeploymentNotFoundFault DBClusterNotFoundFault DBInstanceNotFound
        DBSubnetGroupNotFoundFault GlobalClusterNotFoundFault NotFound QueueDoesNotExist
        ResourceNotFoundException""",
    Rejected: """InvalidParameter InvalidParameterException InvalidRequestException
        ParameterValueInvalid ValidationException""",
    # A limit of the account, an endpoint of a phone, or a mistake of ours.
    RunFailed: """EndpointDisabled HierarchyLevelLimitExceededException
        HierarchyTypeMismatchException IncompatiblePolicyException InvalidAddress
        InvalidAllowedPatternException InvalidFilterKey
        InvalidFilterOption InvalidFilterValue InvalidKeyId InvalidMessageContents InvalidNextToken
        InvalidNextTokenException InvalidPolicyAttributeException InvalidPolicyTypeException
        InvalidSecurity LimitExceededException MalformedPolicyDocumentException
        ParameterAlreadyExists ParameterLimitExceeded ParameterMaxVersionLimitExceeded
        ParameterPatternMismatchException PlatformApplicationDisabled PoliciesLimitExceededException
        PreconditionNotMetException ResourceExistsException UnsupportedOperation
        UnsupportedParameterType""",
}


def meant_by(code: str, status: int = 400) -> type[MigrationError]:
    """Return what it means that a call on a secret is refused with *code*."""
    refused = ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Any",
    )
    with pytest.raises(MigrationError) as caught, calling("x:Any", "secret orders", NotFound):
        raise refused
    return type(caught.value)


def test_each_error_that_aws_describes_is_known(shared: Aws) -> None:
    """Whoever adds a call, or takes a newer botocore, sees what else it may be refused with."""
    described = {
        shape.metadata.get("error", {}).get("code", shape.name)
        for service, operation in asked_for()
        for shape in shared._client(service)
        .meta.service_model.operation_model(
            shared._client(service).meta.method_to_api_mapping[operation]
        )
        .error_shapes
    }

    expected = {code: kind for kind, codes in KNOWN.items() for code in codes.split()}
    assert {code: meant_by(code) for code in described} == expected


def test_all_that_botocore_would_ask_again_is_asked_again() -> None:
    """We do that in its place, for as long as a run has time; a quota of secrets is no throttle."""
    codes = {
        *ThrottledRetryableChecker._THROTTLED_ERROR_CODES,
        *TransientRetryableChecker._TRANSIENT_ERROR_CODES,
    } - {"LimitExceededException"}
    statuses = (429, *TransientRetryableChecker._TRANSIENT_STATUS_CODES)

    assert {meant_by(code) for code in codes} == {NotReady}
    assert {meant_by("Unheard", status) for status in statuses} == {NotReady}
    assert {meant_by(code) for code in ("ExpiredToken", "InvalidClientTokenId")} == {AccessDenied}


def asked_for() -> set[tuple[str, str]]:
    """Return service and method of each call that is made in ``core/aws/``."""
    asking = "".join(path.read_text() for path in (ROOT / "core" / "aws").glob("*.py"))
    made = re.findall(r'self\._client\("(\w+)"\)\.(\w+)\(', asking)
    # It is signed here, and nothing is sent.
    return set(made) - {("rds", "generate_db_auth_token")}


@pytest.mark.parametrize("code", ["DBInstanceNotFound", "DBInstanceNotFoundFault"])
def test_an_unknown_instance_is_its_own_error(code: str, aws: Aws, stub: Stub) -> None:
    """An event for it is left alone; a direct request is told."""
    stub("rds").add_client_error("describe_db_instances", code, "because", 404)

    with pytest.raises(NoSuchInstance) as caught:
        aws.instance("orders")

    assert str(caught.value) == (
        "instance orders does not exist (rds:DescribeDBInstances): check its name"
    )


def test_a_denial_in_the_middle_of_pages_is_translated(aws: Aws, stub: Stub) -> None:
    """A generator's later pages fail as its first does."""
    stub("rds").add_response(
        "describe_db_instances", {"DBInstances": [DB_INSTANCE], "Marker": "next"}
    )
    stub("rds").add_client_error("describe_db_instances", "AccessDenied", "because", 403)
    found = aws.instances()
    next(found)

    with pytest.raises(AccessDenied):
        next(found)


def test_a_name_that_botocore_itself_refuses_is_rejected(aws: Aws) -> None:
    """A malformed name is the caller's mistake, found before AWS is asked."""
    with pytest.raises(Rejected) as caught:
        aws.secret("")

    assert str(caught.value) == "secret  is not a valid name for secretsmanager:GetSecretValue"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            EndpointConnectionError(endpoint_url="https://rds.us-east-1.amazonaws.com"),
            OutOfReach,
            "rds:X cannot be reached: in a VPC without NAT, add the interface endpoint",
        ),
        (
            ConnectTimeoutError(endpoint_url="https://rds.us-east-1.amazonaws.com"),
            OutOfReach,
            "rds:X cannot be reached: in a VPC without NAT, add the interface endpoint",
        ),
        (
            SSLError(endpoint_url="https://vpce-1.rds.example", error="said OpenSSL"),
            OutOfReach,
            "rds:X: TLS with https://vpce-1.rds.example failed: check its name and its certificate",
        ),
        (
            ConnectionClosedError(endpoint_url="https://rds.us-east-1.amazonaws.com"),
            NotReady,
            "rds:X did not answer (ConnectionClosedError): try again",
        ),
        (
            ReadTimeoutError(endpoint_url="https://rds.us-east-1.amazonaws.com"),
            NotReady,
            "rds:X did not answer (ReadTimeoutError): try again",
        ),
        (
            ResponseParserError("half of an answer"),
            NotReady,
            "rds:X did not answer (ResponseParserError): try again",
        ),
        (NoCredentialsError(), AccessDenied, "rds:X: there are no AWS credentials"),
        (NoRegionError(), RunFailed, "rds:X for orders failed: NoRegionError"),
    ],
)
def test_what_botocore_cannot_do_is_translated(
    error: BotoCoreError | ResponseParserError, kind: type[MigrationError], message: str
) -> None:
    """No network, no credentials, no region: each says what to set up."""
    with pytest.raises(kind) as caught, calling("rds:X", "orders"):
        raise error

    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert caught.value.__cause__ is error
