"""
The role allows what the function calls, and nothing that it does not call.

LocalStack's open edition enforces no policy. So the calls that this whole test run made are
compared with the template's role; run alone, these tests make the calls that they need.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from core.aws.account import Aws
from core.settings import Settings
from infra import template
from tests.equipment.small_aws import ACCOUNT, arn, secret_arn
from tests.equipment.world import INSTANCE, MASTER_SECRET, World, event
from tests.security import recorder

# Beside those that make calls in the local AWS, so that it is held to theirs as well.
pytestmark = pytest.mark.local_aws

TOPIC = arn("sns", "results")
KEY = arn("kms", "key/k")

# What no call of ours shows, and why the statement is there all the same.
EXEMPT = {
    "WriteLog": "Lambda itself writes the log, with the function's role",
    "JoinVpc": "Lambda itself makes the network interfaces, with the function's role",
    "TakeWhatWaited": "Lambda itself takes it from the queue, with the function's role",
    "KeepFailedEvents": "Lambda itself sends what failed to the queue, with the function's role",
    "EncryptFailedEvents": "the queue uses its key for Lambda's message, with the function's role",
    "SendTraces": "X-Ray's daemon sends them, beside the function",
    "DecryptMasterSecrets": "Secrets Manager uses the key on the function's behalf",
    "EncryptLoginSecrets": "Secrets Manager uses the key on the function's behalf",
    "EncryptResults": "SNS uses the key on the function's behalf",
}

# The stacks that the tests deploy or play: each has a role of its own, and names by its own name.
STACKS = ("day2", "acme", "chaos", "day2-everything", "leftovers", "other")

EVERYTHING = {
    "IamAuthentication": "true",
    # A hyphen here, a slash there: the tests' own names for secrets that RDS does not manage.
    "MasterSecretArns": arn("secretsmanager", "secret:*master-*"),
    "MasterSecretKmsKeyArns": KEY,
    "SecretKmsKeyArn": KEY,
    "KmsKeyArn": KEY,
    "ResultTopic": TOPIC,
    "ResultTopicKmsKeyArn": KEY,
    "Tracing": "true",
    "VpcId": "vpc-1",
}


@dataclass(frozen=True)
class Access:
    """One thing that a call does: the action, the resource, the keys for conditions."""

    action: str
    resource: str
    keys: Mapping[str, str] = field(default_factory=dict, hash=False)


def accesses(action: str, arguments: Mapping[str, Any]) -> Iterator[Access]:
    """
    Yield what IAM is asked about for a call.

    Service Authorization Reference, of each service: "Actions, resources, and condition keys".
    """
    match action.partition(":")[0], arguments:
        case "rds" | "rds-db", _:
            yield from (Access(action, one) for one in _of_rds(action, arguments))
        case "ssm", {"Names": names}:
            for name in names:
                yield Access(action, arn("ssm", f"parameter{name}"))
        case "ssm", _:
            name = arguments.get("Name") or arguments["Path"]
            yield Access(action, arn("ssm", f"parameter{name}"))
        case "secretsmanager", _:
            # A list names none.
            name = arguments.get("SecretId") or arguments.get("Name", "*")
            if name != "*" and not name.startswith("arn:"):
                name = secret_arn(name)
            yield Access(action, name, _tags_of(name))
        case "events", _:
            for entry in arguments["Entries"]:
                bus = arn("events", "event-bus/default")
                yield Access(action, bus, {"events:source": entry["Source"]})
        case "sqs", _:
            yield Access(action, arn("sqs", str(arguments["QueueUrl"]).rpartition("/")[2]))
        case "sns", _:
            yield Access(action, str(arguments["TopicArn"]))
        case service, _:
            raise AssertionError(f"{service}: say here what {action} asks IAM about")


# The kind of resource that a call of RDS is authorised as, and the field that names it.
_ASKED_AS = {
    "rds:DescribeBlueGreenDeployments": ("deployment", "BlueGreenDeploymentIdentifier"),
    "rds:DescribeDBClusters": ("cluster", "DBClusterIdentifier"),
    "rds:DescribeDBSubnetGroups": ("subgrp", "DBSubnetGroupName"),
}


def _of_rds(action: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the ARNs that a call of RDS, or a token for a database, is authorised as."""
    if action == "rds-db:connect":
        user = arguments["DBUser"]
        return [arn("rds-db", f"dbuser:{one}/{user}") for one in ("db-ORDERS", "cluster-ORDERS")]
    if action == "rds:DescribeGlobalClusters":
        # They are of no region.
        return [f"arn:aws:rds::{ACCOUNT}:global-cluster:*"]
    kind, field = _ASKED_AS.get(action, ("db", "DBInstanceIdentifier"))
    return [arn("rds", f"{kind}:{arguments.get(field, '*')}")]


def _tags_of(secret: str) -> dict[str, str]:
    """Return the tag that RDS puts on the secrets that it manages."""
    for kind, of in (("db", "Instance"), ("cluster", "Cluster")):
        if f":secret:rds!{kind}-" in secret:
            tag = f"secretsmanager:ResourceTag/aws:rds:primaryDB{of}Arn"
            return {tag: arn("rds", f"{kind}:{INSTANCE}")}
    return {}


def allows(statement: Mapping[str, Any], access: Access) -> bool:
    """Say whether *statement* allows *access*, as IAM would."""
    is_named = any(
        fnmatch.fnmatchcase(access.action.lower(), one.lower())
        for one in _list(statement["Action"])
    )
    is_there = any(
        fnmatch.fnmatchcase(access.resource, one) for one in _list(statement["Resource"])
    )
    conditions = statement.get("Condition", {})
    assert set(conditions) <= {"StringEquals", "StringLike"}
    return (
        is_named
        and is_there
        and all(
            any(fnmatch.fnmatchcase(access.keys.get(key, ""), one) for one in _list(values))
            for tests in conditions.values()
            for key, values in tests.items()
            if key != "kms:ViaService"
        )
    )


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def role(parameters: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return what the function's role allows, by the names of its statements."""
    resources = template.resolve(parameters)
    (policy,) = resources["Role"]["Properties"]["Policies"]
    text = json.dumps(policy)
    # An ARN that only a deployment knows.
    for name, resource in resources.items():
        if resource["Type"] == "AWS::SQS::Queue":
            queue = arn("sqs", resource["Properties"]["QueueName"])
            text = text.replace(f'"{name}.Arn"', f'"{queue}"')
    statements = {one["Sid"]: one for one in json.loads(text)["PolicyDocument"]["Statement"]}
    assert not any("Not" in key for statement in statements.values() for key in statement)
    # It takes from the function what only Lambda needs, and so nothing that a call of ours does.
    denied = statements.pop("ButOnlyLambdaItself")
    assert denied["Effect"] == "Deny"
    assert all(action.startswith("ec2:") for action in denied["Action"])
    assert {one["Effect"] for one in statements.values()} == {"Allow"}
    return statements


@pytest.fixture
def made(world: World, monkeypatch: pytest.MonkeyPatch) -> set[Access]:
    """Make every kind of call once more, and return all that were made in this test run."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    managed = {
        "SecretArn": secret_arn("rds!db-1"),
        "SecretStatus": "active",
    }
    world.aws.keep(
        "rds!db-1",
        {"username": "postgres", "password": world.server.master_password},
        **{"aws:rds:primaryDBInstanceArn": arn("rds", f"db:{INSTANCE}")},
    )
    settings = {"DAY2_RESULT_TOPIC_ARN": TOPIC, "DAY2_ALLOW_ROLLBACK": "true"}
    direct = {"instance": INSTANCE}
    world.call({**direct, "target_revision": "001"}, variables=settings)
    world.declare_instance(TagList=[], MasterUserSecret=managed)
    world.call({**direct, "target_revision": "002"}, variables=settings)
    world.call({"secret_name": MASTER_SECRET, "action": "status"}, variables=settings)
    world.declare("001")
    back = {"action": "rollback", "target_revision": "001", "from_revision": "002"}
    world.call({**direct, **back}, variables=settings)
    world.declare_instance(DbiResourceId="db-2", DBName="postgres")
    world.call({**direct, "target_revision": "001"}, variables=settings)
    world.call({**direct, "target_revision": "base"}, variables=settings)
    world.call({**direct, "target_revision": "nonsense"}, variables=settings)
    world.aws.secrets[f"day2/{INSTANCE}/app_user"].put('{"username": "app_user", "password": "p"}')
    world.aws.secrets[f"day2/{INSTANCE}/app_user"].tags["day2:unset"] = "true"
    world.declare_instance()
    world.call({**direct, "target_revision": "001"}, variables=settings)
    sweep = {"source": "day2.schedule", "detail-type": "Sweep Requested", "detail": {}}
    world.call(sweep, variables=settings | {"DAY2_FOLLOW_HEAD": "true"})
    world.call({**sweep, "detail": {"full": True}}, variables=settings)
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)
    assert world.call(event("instance_created"), seconds=6.0).outcome == "INCOMPLETE"
    _call_of_clusters(world, settings | {"DAY2_VPC_ID": "vpc-1"})
    Aws(Settings()).auth_token("localhost", 5432, "postgres")

    calls = [*world.aws.calls, *recorder.CALLS, *recorder.local_calls()]
    return {access for call in calls for access in accesses(call.action, call.arguments)}


def _call_of_clusters(world: World, settings: Mapping[str, str]) -> None:
    """Make the calls that only a cluster needs: its VPC and secret, and whether it is a copy."""
    world.declare_instance()
    world.aws.vpcs["private"] = "vpc-1"
    world.aws.keep(
        "rds!cluster-1", {"username": "postgres", "password": world.server.master_password}
    )
    managed = {"SecretArn": secret_arn("rds!cluster-1"), "SecretStatus": "active"}
    its = {"DBSubnetGroup": "private", "MasterUserSecret": managed, "TagList": []}
    status = {"instance": INSTANCE, "action": "status"}
    world.declare_cluster(**its)
    assert world.call(status, variables=settings).outcome == "STATUS"
    world.declare_instance()
    arn_of_copy = world.declare_cluster(DBClusterMembers=[], **its)
    world.aws.secondaries.append(arn_of_copy)
    assert world.call(status, variables=settings).outcome == "REJECTED"


def test_the_role_is_what_the_calls_need(made: set[Access]) -> None:
    """No call is made that the role does not allow, and none is allowed that nobody makes."""
    statements = role(EVERYTHING)
    roles = [role(EVERYTHING | {"AWS::StackName": name}) for name in STACKS]

    denied = {
        f"{one.action} on {one.resource} {json.dumps(dict(one.keys))}"
        for one in made
        if not any(allows(statement, one) for each in roles for statement in each.values())
    }
    useless = {
        f"{sid}: {action}"
        for sid, statement in statements.items()
        if sid not in EXEMPT
        for action in _list(statement["Action"])
        if not any(one.action == action and allows(statement, one) for one in made)
    }

    assert denied == set()
    assert useless == set()


def test_every_exemption_is_of_a_statement() -> None:
    """An exemption of nothing would hide the next statement of its name."""
    assert set(EXEMPT) <= set(role(EVERYTHING))


def test_no_statement_is_wider_than_its_api() -> None:
    """No action has a wildcard, and only what has no resources of its own is allowed on all."""
    wide = {
        sid for sid, statement in role(EVERYTHING).items() if "*" in _list(statement["Resource"])
    }
    actions = [
        action for statement in role(EVERYTHING).values() for action in _list(statement["Action"])
    ]

    assert [action for action in actions if "*" in action] == []
    # Service Authorization Reference: X-Ray, and network interfaces as Lambda makes them. What
    # the list of all deployments is authorised as is not proven (infra/AWS.md).
    assert wide == {"CountLoginSecrets", "FindDeployments", "JoinVpc", "SendTraces"}


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("ssm:GetParameters", {"Names": ["/day2-other/orders/target-revision"]}),
        ("ssm:GetParameters", {"Names": ["/day2/orders/something"]}),
        ("ssm:PutParameter", {"Name": "/day2/orders/target-revision"}),
        ("ssm:DeleteParameter", {"Name": "/day2/orders/observed-state"}),
        ("secretsmanager:GetSecretValue", {"SecretId": "billing"}),
        ("secretsmanager:GetSecretValue", {"SecretId": "rds!proxy-1"}),
        ("secretsmanager:PutSecretValue", {"SecretId": "rds!cluster-1"}),
        ("rds:ModifyDBCluster", {"DBClusterIdentifier": INSTANCE}),
        ("secretsmanager:PutSecretValue", {"SecretId": "rds!db-1"}),
        ("secretsmanager:PutSecretValue", {"SecretId": MASTER_SECRET}),
        ("secretsmanager:DeleteSecret", {"SecretId": "day2/orders/app_user"}),
        ("secretsmanager:CreateSecret", {"Name": "day2-other/orders/app_user"}),
        ("events:PutEvents", {"Entries": [{"Source": "aws.rds"}]}),
        ("rds:ModifyDBInstance", {"DBInstanceIdentifier": INSTANCE}),
        ("rds-db:connect", {"DBUser": "rdsadmin"}),
        ("sns:Publish", {"TopicArn": arn("sns", "other")}),
        ("sqs:SendMessage", {"QueueUrl": "https://sqs.example/000000000000/other"}),
        ("sqs:SendMessage", {"QueueUrl": "https://sqs.example/000000000000/day2-undelivered"}),
        ("sqs:PurgeQueue", {"QueueUrl": "https://sqs.example/000000000000/day2-waiting"}),
        ("sqs:ReceiveMessage", {"QueueUrl": "https://sqs.example/000000000000/day2-failures"}),
    ],
)
def test_what_is_not_needed_is_denied(action: str, arguments: dict[str, Any]) -> None:
    """The other side of the proof: what a thief of the role would like is not in it."""
    statements = role(EVERYTHING).values()

    assert [
        one
        for one in accesses(action, arguments)
        if any(allows(statement, one) for statement in statements)
    ] == []
