"""
What the template sets is there after a deployment with everything switched on.

The local AWS takes the log's retention, the reserved concurrency and the dashboard without keeping
them; ``tests/deployment`` holds the template to these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from core.revisions.folder import Folder
from core.settings import ROOT
from infra import package
from infra import template as cloudformation
from infra.local import stack
from infra.local.local_aws import LocalAws
from tests.operating.conftest import put_to_sleep

STACK = "day2-everything"
MIGRATIONS = Folder(ROOT / "tests" / "contract" / "years_ago")
# botocore's word for a service, and the endpoint's.
ENDPOINTS = {
    "EVENTBRIDGE": "events",
    "RDS": "rds",
    "SECRETS_MANAGER": "secretsmanager",
    "SNS": "sns",
    "SQS": "sqs",
    "SSM": "ssm",
}
KEY = "arn:aws:kms:us-east-1:000000000000:key/9e8a0c70-5ba4-4c3f-9d9f-2b1f5c7f6a52"


@pytest.fixture(scope="module")
def parameters(local_aws: LocalAws) -> Iterator[dict[str, str]]:
    """Deploy a second stack beside the first, with all that a parameter can switch on."""
    ec2, sns = (local_aws.client(name) for name in ("ec2", "sns"))
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"]
        for number in (0, 1)
    ]
    topic = sns.create_topic(Name="operators")["TopicArn"]
    values = {
        "AlarmTopic": topic,
        "CreateEndpoints": "true",
        "IamAuthentication": "true",
        "KmsKeyArn": KEY,
        "MasterSecretArns": "arn:aws:secretsmanager:us-east-1:000000000000:secret:orders-*",
        "MasterSecretKmsKeyArns": KEY,
        "PermissionsBoundaryArn": "arn:aws:iam::aws:policy/PowerUserAccess",
        "ReservedConcurrency": "5",
        "ResultTopic": topic,
        "ResultTopicKmsKeyArn": KEY,
        "SecretKmsKeyArn": KEY,
        "SubnetIds": ",".join(subnets),
        "Tracing": "true",
        "VpcId": vpc,
    }
    stack.deploy(local_aws, stack=STACK, parameters=values, migrations=MIGRATIONS)
    key = package.build(package.OUTPUT / "local", migrations=MIGRATIONS).migrations_key
    yield values | {"MigrationsKey": key}
    put_to_sleep(local_aws, STACK)


@pytest.fixture(scope="module")
def wanted(parameters: dict[str, str]) -> dict[str, Any]:
    """Return the resources as the template has them with these parameters."""
    return cloudformation.resolve({**parameters, "AWS::StackName": STACK})


def test_every_resource_is_there(local_aws: LocalAws, wanted: dict[str, Any]) -> None:
    """Those of the template, and those that SAM makes of its events."""
    found = local_aws.client("cloudformation").describe_stack_resources(StackName=STACK)
    made = {one["LogicalResourceId"]: one["ResourceStatus"] for one in found["StackResources"]}

    assert set(made.values()) == {"CREATE_COMPLETE"}
    # SAM names a layer by its content, too.
    layers = [re.sub("[0-9a-f]{10}$", "", name) for name in made if name not in wanted]
    assert wanted.keys() - {"Libraries", "Migrations"} <= made.keys()
    assert {one: layers.count(one) for one in ("Libraries", "Migrations")} == {
        "Libraries": 1,
        "Migrations": 1,
    }
    events = {f"Dispatcher{name}" for name in wanted["Dispatcher"]["Properties"]["Events"]}
    assert events <= made.keys()
    # Lambda takes from the queue by the function's own role, and needs no permission to invoke.
    assert {f"{name}Permission" for name in events - {"DispatcherWaited"}} <= made.keys()


def test_the_function_is_as_written(
    local_aws: LocalAws, wanted: dict[str, Any], parameters: dict[str, str]
) -> None:
    """Its size, variables, network and tracing, and what becomes of failures."""
    client = local_aws.client("lambda")
    name = f"{STACK}-dispatcher"
    expected = wanted["Dispatcher"]["Properties"]

    it = client.get_function_configuration(FunctionName=name)
    variables = {
        key: value
        for key, value in expected["Environment"]["Variables"].items()
        if key not in ("DAY2_CA_FILE", "DAY2_SECURITY_GROUP_IDS")
        and not key.startswith(("AWS_", "DAY2_WAITING_"))
    }
    assert str(it["MemorySize"]) == str(expected["MemorySize"])
    assert str(it["Timeout"]) == str(expected["Timeout"])
    assert it["Handler"] == expected["Handler"]
    assert variables.items() <= it["Environment"]["Variables"].items()
    given = it["Environment"]["Variables"]
    assert given["DAY2_SECURITY_GROUP_IDS"].startswith("sg-")
    assert given["DAY2_WAITING_QUEUE_ARN"].endswith(f":000000000000:{STACK}-waiting")
    assert given["DAY2_WAITING_QUEUE_URL"].endswith(f"/000000000000/{STACK}-waiting")
    for variable, service in ENDPOINTS.items():
        url = given[f"AWS_ENDPOINT_URL_{variable}"]
        assert re.match(rf"https://vpce-[\w-]+\.{service}\.us-east-1\.vpce\.", url)
    assert it["VpcConfig"]["SubnetIds"] == parameters["SubnetIds"].split(",")
    assert it["TracingConfig"]["Mode"] == "Active"
    assert [one["Arn"].split(":")[-2] for one in it["Layers"]] == [
        f"{STACK}-libraries",
        f"{STACK}-migrations",
    ]
    invoked = client.get_function_event_invoke_config(FunctionName=name)
    assert (invoked["MaximumEventAgeInSeconds"], invoked["MaximumRetryAttempts"]) == (21600, 2)
    assert invoked["DestinationConfig"]["OnFailure"]["Destination"].endswith(f"{STACK}-failures")


def test_the_rules_are_as_written(local_aws: LocalAws, wanted: dict[str, Any]) -> None:
    """Pattern or schedule, target, input, dead-letter queue and retries."""
    client = local_aws.client("events")
    queue = f"arn:aws:sqs:us-east-1:000000000000:{STACK}-undelivered"

    for rule in wanted["Dispatcher"]["Properties"]["Events"].values():
        if rule["Type"] == "SQS":
            continue
        expected = rule["Properties"]
        name = expected.get("RuleName") or expected["Name"]
        found = client.describe_rule(Name=name)
        (target,) = client.list_targets_by_rule(Rule=name)["Targets"]
        assert json.loads(found.get("EventPattern", "null")) == expected.get("Pattern")
        assert found.get("ScheduleExpression") == expected.get("Schedule")
        assert target["Arn"].endswith(f":function:{STACK}-dispatcher")
        assert target.get("Input") == expected.get("Input")
        assert target["DeadLetterConfig"] == {"Arn": queue}
        retries = {key: int(value) for key, value in target["RetryPolicy"].items()}
        assert retries == expected["RetryPolicy"]


def test_the_queues_are_as_written(local_aws: LocalAws, parameters: dict[str, str]) -> None:
    """With their keys, and for as long as they keep what they hold."""
    sqs = local_aws.client("sqs")
    for name in ("failures", "undelivered", "waiting"):
        url = sqs.get_queue_url(QueueName=f"{STACK}-{name}")["QueueUrl"]
        it = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert it["MessageRetentionPeriod"] == "1209600"
        assert it["KmsMasterKeyId"] == parameters["KmsKeyArn"]
    # What waits comes one by one, and ends with the failures.
    policy = json.loads(it["RedrivePolicy"])
    assert policy["deadLetterTargetArn"].endswith(f":{STACK}-failures")
    assert (int(policy["maxReceiveCount"]), it["VisibilityTimeout"]) == (5, "900")
    mappings = local_aws.client("lambda").list_event_source_mappings(
        FunctionName=f"{STACK}-dispatcher"
    )
    (mapping,) = mappings["EventSourceMappings"]
    assert (mapping["EventSourceArn"], mapping["BatchSize"]) == (it["QueueArn"], 1)


def test_the_alarms_are_as_written(local_aws: LocalAws, wanted: dict[str, Any]) -> None:
    """Each with its metric, its threshold, what missing data means, and whom it tells."""
    found = local_aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{STACK}-")
    alarms = {one["AlarmName"]: one for one in found["MetricAlarms"]}
    expected = {
        it["Properties"]["AlarmName"]: it["Properties"]
        for it in wanted.values()
        if it["Type"] == "AWS::CloudWatch::Alarm"
    }

    assert alarms.keys() == expected.keys()
    for name, properties in expected.items():
        for key, value in properties.items():
            if key in ("Dimensions", "Metrics"):
                continue  # they name resources, which have other names once deployed
            got = alarms[name].get(key)
            assert (float(got) == float(value)) if key == "Threshold" else (got == value), key


def test_the_role_is_as_written(local_aws: LocalAws, wanted: dict[str, Any]) -> None:
    """The same statements, and the boundary."""
    iam, cloud = local_aws.client("iam"), local_aws.client("cloudformation")
    resource = cloud.describe_stack_resource(StackName=STACK, LogicalResourceId="Role")
    name = resource["StackResourceDetail"]["PhysicalResourceId"]

    policy = iam.get_role_policy(RoleName=name, PolicyName="day2")["PolicyDocument"]
    (expected,) = wanted["Role"]["Properties"]["Policies"]
    sids = [statement["Sid"] for statement in expected["PolicyDocument"]["Statement"]]
    assert [statement["Sid"] for statement in policy["Statement"]] == sids
    boundary = iam.get_role(RoleName=name)["Role"]["PermissionsBoundary"]
    assert boundary["PermissionsBoundaryArn"] == "arn:aws:iam::aws:policy/PowerUserAccess"


def test_two_stacks_live_side_by_side(
    local_aws: LocalAws, deployed: dict[str, str], parameters: dict[str, str]
) -> None:
    """An event of the one is none of the other."""
    events = local_aws.client("events")
    patterns = {
        name: events.describe_rule(Name=f"{name}-requests")["EventPattern"]
        for name in ("day2", STACK)
    }
    assert deployed
    assert parameters

    for source in patterns:
        event = {
            "id": "7bf73129-1428-4cd3-a780-95db273d1602",
            "account": "000000000000",
            "source": source,
            "detail-type": "Migration Requested",
            "detail": {"instance": "orders"},
            "time": "2026-11-22T10:00:00Z",
            "region": "us-east-1",
            "resources": [],
        }
        woken = {
            name
            for name, pattern in patterns.items()
            if events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"]
        }
        assert woken == {source}


def test_the_processed_template_deploys_without_a_transform(
    local_aws: LocalAws, deployed: dict[str, str]
) -> None:
    """What a service-managed StackSet takes (infra/ACCOUNTS.md): plain, with all its parameters."""
    cloud = local_aws.client("cloudformation")
    prefix, member = "member", "StackSet-databases-of-the-payments-team-0a1b2c3d-4e5f-6071-8293"
    body = cloud.get_template(StackName="day2", TemplateStage="Processed")["TemplateBody"]
    processed = body if isinstance(body, dict) else json.loads(body)
    given = cloud.describe_stacks(StackName="day2")["Stacks"][0]["Parameters"]

    assert "Transform" not in processed
    assert not [it for it in processed["Resources"].values() if "Serverless" in it["Type"]]
    assert processed["Parameters"].keys() == cloudformation.load()["Parameters"].keys()
    s3, key = local_aws.client("s3"), "processed.json"
    s3.put_object(Bucket=stack.BUCKET, Key=key, Body=json.dumps(processed))
    cloud.create_stack(
        StackName=member,
        TemplateURL=f"{local_aws.endpoint_url}/{stack.BUCKET}/{key}",
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {
                **{one["ParameterKey"]: one["ParameterValue"] for one in given},
                "Prefix": prefix,
            }.items()
        ],
    )
    cloud.get_waiter("stack_create_complete").wait(StackName=member, WaiterConfig={"Delay": 1})
    (stack_of_set,) = cloud.describe_stacks(StackName=member)["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack_of_set["Outputs"]}
    put_to_sleep(local_aws, prefix)
    assert outputs.keys() == deployed.keys()
    assert outputs["FunctionName"] == f"{prefix}-dispatcher"
