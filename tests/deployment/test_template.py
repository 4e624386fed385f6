"""What the template promises: settings, rules, rights, queues, alarms and the dashboard."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from core.settings import Settings
from handlers.requests import CLUSTER_EVENTS, INSTANCE_EVENTS
from infra import package as packaging
from infra import template as cloudformation
from tests.deployment.conftest import EVERYTHING
from tests.equipment import documents
from tests.equipment.histories import OURS

ACCOUNTS = "infra/ACCOUNTS.md"
DEPLOY = documents.ROOT / "infra" / "deploy.mk"
QUEUES = ("Failures", "Undelivered", "Waiting")
# StackSets name a member's stack so: StackSet-, the set's name, and a random identifier.
STACK_OF_A_SET = "StackSet-databases-of-the-payments-team-0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"

ARN = "arn:aws:{}:us-east-1:000000000000:{}"

# The statements of the role, whatever is switched on: what each allows, and on what.
KEY = "arn:aws:kms:us-east-1:000000000000:key/k"
RIGHTS = {
    "WriteLog": (
        ["logs:CreateLogStream", "logs:PutLogEvents"],
        [ARN.format("logs", "log-group:/aws/lambda/day2-dispatcher:*")],
    ),
    "FindDatabases": (
        [
            "rds:DescribeDBInstances",
            "rds:DescribeDBClusters",
            "rds:DescribeDBSubnetGroups",
            "rds:DescribeGlobalClusters",
        ],
        [
            ARN.format("rds", "db:*"),
            ARN.format("rds", "cluster:*"),
            ARN.format("rds", "subgrp:*"),
            "arn:aws:rds::000000000000:global-cluster:*",
        ],
    ),
    "FindDeployments": (["rds:DescribeBlueGreenDeployments"], ["*"]),
    "ReadTargetsAndStates": (
        ["ssm:GetParameters"],
        [
            ARN.format("ssm", "parameter/day2/*/target-revision"),
            ARN.format("ssm", "parameter/day2/*/observed-state"),
        ],
    ),
    "ListTargetsAndStates": (
        ["ssm:GetParametersByPath"],
        [ARN.format("ssm", "parameter/day2"), ARN.format("ssm", "parameter/day2/")],
    ),
    "WriteStates": (["ssm:PutParameter"], [ARN.format("ssm", "parameter/day2/*/observed-state")]),
    "ReadManagedMasterSecrets": (
        ["secretsmanager:GetSecretValue"],
        [ARN.format("secretsmanager", "secret:rds!db-*")],
    ),
    "ReadManagedMasterSecretsOfClusters": (
        ["secretsmanager:GetSecretValue"],
        [ARN.format("secretsmanager", "secret:rds!cluster-*")],
    ),
    "ReadOtherMasterSecrets": (
        ["secretsmanager:GetSecretValue"],
        [ARN.format("secretsmanager", "secret:orders-*")],
    ),
    "DecryptMasterSecrets": (["kms:Decrypt"], [KEY]),
    "KeepLoginSecrets": (
        [
            "secretsmanager:CreateSecret",
            "secretsmanager:DescribeSecret",
            "secretsmanager:GetSecretValue",
            "secretsmanager:PutSecretValue",
            "secretsmanager:TagResource",
            "secretsmanager:UntagResource",
        ],
        [ARN.format("secretsmanager", "secret:day2/*")],
    ),
    "CountLoginSecrets": (["secretsmanager:ListSecrets"], ["*"]),
    "EncryptLoginSecrets": (["kms:Decrypt", "kms:GenerateDataKey"], [KEY]),
    "ConnectAsMaster": (
        ["rds-db:connect"],
        [
            ARN.format("rds-db", "dbuser:db-*/postgres"),
            ARN.format("rds-db", "dbuser:cluster-*/postgres"),
        ],
    ),
    "PutOwnEvents": (["events:PutEvents"], [ARN.format("events", "event-bus/default")]),
    "PublishResults": (["sns:Publish"], [ARN.format("sns", "results")]),
    "EncryptResults": (["kms:Decrypt", "kms:GenerateDataKey"], [KEY]),
    "PutOff": (["sqs:SendMessage"], ["Waiting.Arn"]),
    "TakeWhatWaited": (
        ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"],
        ["Waiting.Arn"],
    ),
    "KeepFailedEvents": (["sqs:SendMessage"], ["Failures.Arn"]),
    "EncryptFailedEvents": (["kms:Decrypt", "kms:GenerateDataKey"], [KEY]),
    "SendTraces": (["xray:PutTelemetryRecords", "xray:PutTraceSegments"], ["*"]),
    "JoinVpc": (
        [
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:UnassignPrivateIpAddresses",
        ],
        ["*"],
    ),
}
ON_REQUEST = {
    "DecryptMasterSecrets",
    "EncryptFailedEvents",
    "EncryptLoginSecrets",
    "EncryptResults",
    "JoinVpc",
    "PublishResults",
    "ReadOtherMasterSecrets",
    "SendTraces",
}

METRICS = {
    "InstancesBehind",
    "InstancesBlocked",
    "InstancesSkipped",
    "MigrationFailures",
    "OldestBehindSeconds",
    "OrphanedSecrets",
    "ReportingFailed",
    "RevisionFilesChanged",
    "RevisionsApplied",
    "RunDuration",
    "RunsPutOff",
    "Runs",
}


def as_list(value: Any) -> list[Any]:
    """Return what IAM lets one write alone as the list it stands for."""
    return value if isinstance(value, list) else [value]


def statements(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the role's statements by their Sid."""
    (policy,) = resources["Role"]["Properties"]["Policies"]
    found = policy["PolicyDocument"]["Statement"]
    by_sid = {statement["Sid"]: statement for statement in found}
    assert len(by_sid) == len(found)
    return by_sid


def rules(resources: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of the function's events by name."""
    events = resources["Dispatcher"]["Properties"]["Events"]
    return {name: event["Properties"] for name, event in events.items()}


def test_every_setting_has_its_variable(resources: dict[str, Any]) -> None:
    """The function reads no setting that no parameter can change, and the other way round."""
    variables = resources["Dispatcher"]["Properties"]["Environment"]["Variables"]
    settings = {f"DAY2_{name.upper()}" for name in Settings()._asdict()} - {"DAY2_BUILD"}

    assert {name for name in variables if name.startswith("DAY2_")} == settings
    assert {name: value for name, value in variables.items() if name not in settings} == {
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_METRICS_NAMESPACE": "day2",
        "POWERTOOLS_SERVICE_NAME": "day2",
    }


def test_the_templates_defaults_are_the_settings(resources: dict[str, Any]) -> None:
    """Who deploys with no parameter gets what the code says."""
    variables = resources["Dispatcher"]["Properties"]["Environment"]["Variables"]

    # Which build and which queue it is, only a deployment knows.
    own = {"build": "", "waiting_queue_arn": "Waiting.Arn", "waiting_queue_url": "Waiting"}
    assert Settings.from_env(variables)._asdict() | {"build": ""} == Settings()._asdict() | own


def test_migrations_are_a_layer_beside_the_libraries(
    resources: dict[str, Any], all_resources: dict[str, Any]
) -> None:
    """Where there are any; the function looks for them where Lambda puts them, and nowhere else."""
    bare, whole = (one["Dispatcher"]["Properties"] for one in (resources, all_resources))

    assert ("Migrations" in resources, bare["Layers"]) == (False, ["Libraries"])
    assert whole["Layers"] == ["Libraries", "Migrations"]
    assert (
        all_resources["Migrations"]["Properties"]["ContentUri"]["Key"]
        == (EVERYTHING["MigrationsKey"])
    )
    where = whole["Environment"]["Variables"]["DAY2_MIGRATIONS"]
    assert where == f"{packaging.LAYERS_AT}/{packaging.MIGRATIONS}"


def test_code_is_signed_where_the_account_demands_it(
    resources: dict[str, Any], all_resources: dict[str, Any]
) -> None:
    """By a configuration of the account's own."""
    assert "CodeSigningConfigArn" not in resources["Dispatcher"]["Properties"]
    signed = all_resources["Dispatcher"]["Properties"]["CodeSigningConfigArn"]
    assert signed == EVERYTHING["CodeSigningConfigArn"]


def test_every_parameter_is_described_used_and_shown() -> None:
    """A parameter that nothing refers to is a promise that nobody keeps."""
    template = cloudformation.load()
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    text = cloudformation.PATH.read_text()

    assert sorted(shown) == sorted(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"]
        assert f"!Ref {name}" in text or f"${{{name}}}" in text, name


def test_the_rules_match_exactly_what_the_design_says(resources: dict[str, Any]) -> None:
    """Every rule pins its own account."""
    found = rules(resources)
    patterns = {name: rule["Pattern"] for name, rule in found.items() if "Pattern" in rule}
    schedules = {
        name: (rule["Schedule"], json.loads(rule["Input"]))
        for name, rule in found.items()
        if "Schedule" in rule
    }

    assert patterns == {
        "Instances": {
            "account": ["000000000000"],
            "source": ["aws.rds"],
            "detail-type": ["RDS DB Instance Event"],
            "detail": {"SourceType": ["DB_INSTANCE"], "EventID": sorted(INSTANCE_EVENTS)},
        },
        "Clusters": {
            "account": ["000000000000"],
            "source": ["aws.rds"],
            "detail-type": ["RDS DB Cluster Event"],
            "detail": {"SourceType": ["CLUSTER"], "EventID": sorted(CLUSTER_EVENTS)},
        },
        "Deployments": {
            "account": ["000000000000"],
            "source": ["aws.rds"],
            "detail-type": ["RDS Blue Green Deployment Event"],
            "detail": {
                "SourceType": ["BLUE_GREEN_DEPLOYMENT"],
                "EventID": ["RDS-EVENT-0246", "RDS-EVENT-0248"],
            },
        },
        "Parameters": {
            "account": ["000000000000"],
            "source": ["aws.ssm"],
            "detail-type": ["Parameter Store Change"],
            "detail": {
                "name": [{"wildcard": "/day2/*/target-revision"}],
                "operation": ["Create", "Update"],
            },
        },
        "Requests": {
            "account": ["000000000000"],
            "source": ["day2"],
            "detail-type": ["Migration Requested", "Sweep Requested"],
        },
    }
    sweep = {"source": "day2.schedule", "detail-type": "Sweep Requested"}
    assert schedules == {
        "Sweep": ("rate(60 minutes)", {**sweep, "detail": {}}),
        "FullSweep": ("rate(24 hours)", {**sweep, "detail": {"full": True}}),
    }


def test_nothing_of_ours_wakes_us_by_the_wrong_rule(resources: dict[str, Any]) -> None:
    """Neither a result event nor the state that a run writes is a trigger."""
    found = rules(resources)
    (name,) = found["Parameters"]["Pattern"]["detail"]["name"]

    assert not fnmatch.fnmatchcase("/day2/orders/observed-state", name["wildcard"])
    assert not {"Migration Succeeded", "Migration Failed"} & set(
        found["Requests"]["Pattern"]["detail-type"]
    )


def test_nothing_is_lost_on_the_way(resources: dict[str, Any]) -> None:
    """What a rule cannot deliver and what the function cannot do both end in a queue."""
    configuration = resources["Dispatcher"]["Properties"]["EventInvokeConfig"]

    assert configuration == {
        "MaximumEventAgeInSeconds": 6 * 3600,
        "MaximumRetryAttempts": 2,
        "DestinationConfig": {"OnFailure": {"Type": "SQS", "Destination": "Failures.Arn"}},
    }
    for name, rule in rules(resources).items():
        if name == "Waited":
            continue
        assert rule["DeadLetterConfig"] == {"Arn": "Undelivered.Arn"}
        assert rule["RetryPolicy"].keys() == {"MaximumEventAgeInSeconds", "MaximumRetryAttempts"}


def test_what_waits_comes_by_itself_and_ends_with_the_failures(resources: dict[str, Any]) -> None:
    """
    One message an invocation, so that a failure is of one event.

    The Lambda Developer Guide, "Using Lambda with Amazon SQS", asks for a visibility timeout no
    shorter than the function's, and for five tries, since a throttle counts as one.
    """
    queue = resources["Waiting"]["Properties"]
    longest = cloudformation.load()["Parameters"]["TimeoutSeconds"]["MaxValue"]

    assert rules(resources)["Waited"] == {"Queue": "Waiting.Arn", "BatchSize": 1}
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": "Failures.Arn",
        "maxReceiveCount": 5,
    }
    assert queue["VisibilityTimeout"] >= longest
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_the_role_may_do_this_and_no_more(all_resources: dict[str, Any]) -> None:
    """Each statement names its need, its actions and its resources."""
    allowed = {
        sid: (as_list(statement["Action"]), as_list(statement["Resource"]))
        for sid, statement in statements(all_resources).items()
        if statement["Effect"] == "Allow"
    }

    assert allowed == RIGHTS


def test_the_role_has_no_wildcard_action(all_resources: dict[str, Any]) -> None:
    """Nor does it say what it may do by saying what it may not."""
    for statement in statements(all_resources).values():
        assert not any("*" in action for action in as_list(statement["Action"]))
        assert not statement.keys() & {"NotAction", "NotResource"}


def test_the_role_begins_with_the_least(resources: dict[str, Any]) -> None:
    """What a parameter switches on brings its right with it."""
    assert statements(resources).keys() == RIGHTS.keys() - ON_REQUEST


def test_rights_are_narrowed_by_conditions(all_resources: dict[str, Any]) -> None:
    """Managed secrets by their instance, events by their source, keys by who asks."""
    conditions = {
        sid: statement["Condition"]
        for sid, statement in statements(all_resources).items()
        if "Condition" in statement
    }
    by_secrets_manager = {
        "StringEquals": {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}
    }

    assert conditions == {
        "ReadManagedMasterSecrets": {
            "StringLike": {
                "secretsmanager:ResourceTag/aws:rds:primaryDBInstanceArn": ARN.format("rds", "db:*")
            }
        },
        "ReadManagedMasterSecretsOfClusters": {
            "StringLike": {
                "secretsmanager:ResourceTag/aws:rds:primaryDBClusterArn": ARN.format(
                    "rds", "cluster:*"
                )
            }
        },
        "DecryptMasterSecrets": by_secrets_manager,
        "EncryptLoginSecrets": by_secrets_manager,
        "EncryptFailedEvents": {"StringEquals": {"kms:ViaService": "sqs.us-east-1.amazonaws.com"}},
        "EncryptResults": {"StringEquals": {"kms:ViaService": "sns.us-east-1.amazonaws.com"}},
        "PutOwnEvents": {"StringEquals": {"events:source": "day2"}},
        "ButOnlyLambdaItself": {
            "ArnEquals": {
                "lambda:SourceFunctionArn": ARN.format("lambda", "function:day2-dispatcher")
            }
        },
    }


def test_the_functions_code_may_not_use_lambdas_network_rights(
    all_resources: dict[str, Any],
) -> None:
    """Lambda makes network interfaces with the role; our code never does."""
    denied = statements(all_resources)["ButOnlyLambdaItself"]

    assert denied["Effect"] == "Deny"
    assert denied["Action"] == RIGHTS["JoinVpc"][0]


def test_a_name_prefix_narrows_the_master_secrets() -> None:
    """Two teams in one account do not read each other's."""
    resources = cloudformation.resolve({"InstanceNamePrefix": "team-a-"})

    for sid, kind, of in (
        ("ReadManagedMasterSecrets", "Instance", "db"),
        ("ReadManagedMasterSecretsOfClusters", "Cluster", "cluster"),
    ):
        assert statements(resources)[sid]["Condition"]["StringLike"] == {
            f"secretsmanager:ResourceTag/aws:rds:primaryDB{kind}Arn": ARN.format(
                "rds", f"{of}:team-a-*"
            )
        }


@pytest.mark.parametrize(
    "named",
    [
        lambda name: {"AWS::StackName": name},
        lambda name: {"AWS::StackName": STACK_OF_A_SET, "Prefix": name},
    ],
    ids=["by the stack's name", "by its prefix"],
)
def test_two_stacks_share_no_name(named: Callable[[str], dict[str, str]]) -> None:
    """Every name, pattern and right has the stack's prefix in it; a tag alone says the stack."""
    one, other = (cloudformation.resolve(named(name)) for name in ("first", "second"))
    names = re.compile(r"(\w*Name|Source|Input)$")

    def shown(node: Any, path: str = "") -> dict[str, str]:
        if isinstance(node, dict):
            return {k: v for key in node for k, v in shown(node[key], f"{path}/{key}").items()}
        if isinstance(node, list):
            return {
                k: v for i, item in enumerate(node) for k, v in shown(item, f"{path}/{i}").items()
            }
        return {path: str(node)} if names.search(path) else {}

    ours = {
        path: value
        for path, value in shown(one).items()
        if not path.endswith(("MetricName", "PolicyName", "ServiceName", "Dimensions/0/Name"))
    }
    assert ours
    for path, value in ours.items():
        refers_to_a_resource_of_the_stack = value.partition(".")[0] in one
        assert "first" in value or refers_to_a_resource_of_the_stack, path
        assert shown(other)[path] == value.replace("first", "second")


def test_a_prefix_is_all_that_is_seen_of_a_stack(all_resources: dict[str, Any]) -> None:
    """But for the tag that says which stack a resource is of."""
    long = cloudformation.resolve(EVERYTHING | {"AWS::StackName": STACK_OF_A_SET, "Prefix": "day2"})
    text = json.dumps(long).replace(f'"stack": "{STACK_OF_A_SET}"', '"stack": "day2"')

    text = text.replace(
        f'"Key": "stack", "Value": "{STACK_OF_A_SET}"', '"Key": "stack", "Value": "day2"'
    )
    assert json.loads(text) == all_resources


def test_the_longest_prefix_leaves_names_that_aws_takes() -> None:
    """64 characters for functions and rules, 80 for queues (their API References)."""
    most = cloudformation.load()["Parameters"]["Prefix"]["MaxLength"]
    resources = cloudformation.resolve({"Prefix": "p" * most})

    names = [
        rule.get("RuleName") or rule["Name"]
        for name, rule in rules(resources).items()
        if name != "Waited"
    ]
    assert len(resources["Dispatcher"]["Properties"]["FunctionName"]) == 64
    assert max(map(len, names)) <= 64
    assert max(len(resources[name]["Properties"]["QueueName"]) for name in QUEUES) <= 80


@pytest.mark.parametrize(
    ("prefix", "is_taken"),
    [
        ("", True),
        ("day2", True),
        ("Team-A2", True),
        ("awsome", False),
        ("SSM", False),
        ("2day", False),
        ("a/b", False),
        ("a.b", False),
        ("a b", False),
    ],
)
def test_a_prefix_is_one_that_every_service_takes(prefix: str, is_taken: bool) -> None:  # noqa: FBT001
    """It is part of a parameter's path, and of a function's name."""
    pattern = cloudformation.load()["Parameters"]["Prefix"]["AllowedPattern"]

    assert bool(re.search(pattern, prefix)) is is_taken


@pytest.mark.parametrize(
    ("minutes", "hours", "rates"),
    [
        ("1", "1", ["rate(1 minute)", "rate(1 hour)"]),
        ("2", "2", ["rate(2 minutes)", "rate(2 hours)"]),
        ("60", "24", ["rate(60 minutes)", "rate(24 hours)"]),
    ],
)
def test_a_rate_is_one_that_eventbridge_takes(minutes: str, hours: str, rates: list[str]) -> None:
    """EventBridge User Guide, "Rate expressions": the singular for 1, and for nothing else."""
    found = rules(cloudformation.resolve({"SweepMinutes": minutes, "FullSweepHours": hours}))

    assert [found["Sweep"]["Schedule"], found["FullSweep"]["Schedule"]] == rates
    for name in ("SweepMinutes", "FullSweepHours"):
        assert cloudformation.load()["Parameters"][name]["MinValue"] == 1


def test_the_central_rule_hears_every_member_of_the_stack_set() -> None:
    """What infra/ACCOUNTS.md writes: the set's prefix is the source that its rule matches."""
    (command,) = (one for one in documents.commands(ACCOUNTS) if "create-stack-set " in one)
    given = dict(re.findall(r"ParameterKey=(\w+),ParameterValue=([\w-]+)", command))
    (rule,) = (json.loads(one) for one in documents.code(ACCOUNTS) if one.startswith('{"source"'))

    member = cloudformation.resolve({"AWS::StackName": STACK_OF_A_SET, "Prefix": given["Prefix"]})
    variables = member["Dispatcher"]["Properties"]["Environment"]["Variables"]
    assert rule["source"] == [variables["DAY2_PREFIX"]]
    assert rule["detail-type"] == ["Migration Succeeded", "Migration Failed"]


def test_one_function_and_no_second_version_of_it(resources: dict[str, Any]) -> None:
    """Two builds at once on one fleet would disagree about head."""
    function = resources["Dispatcher"]["Properties"]

    assert not function.keys() & {"AutoPublishAlias", "DeploymentPreference", "SnapStart"}
    assert "ReservedConcurrentExecutions" not in function
    assert function["Handler"] == "handlers.dispatcher.handler"


def test_a_vpc_brings_what_it_needs(all_resources: dict[str, Any]) -> None:
    """The endpoints are those of the services that the function's code calls."""
    endpoints = {
        resource["Properties"]["ServiceName"].rpartition(".")[2]
        for resource in all_resources.values()
        if resource["Type"] == "AWS::EC2::VPCEndpoint"
    }

    assert endpoints == {"events", "rds", "secretsmanager", "sns", "sqs", "ssm"}
    assert all_resources["Dispatcher"]["Properties"]["VpcConfig"] == {
        "SubnetIds": ["subnet-1", "subnet-2"],
        "SecurityGroupIds": ["SecurityGroup.GroupId"],
    }


def test_endpoints_are_for_us_alone(all_resources: dict[str, Any]) -> None:
    """
    Without private DNS no other client of the VPC is led to them; ours asks them by their names.

    botocore reads the variables (its guide, "Service-specific endpoints"). Each client that the
    code makes is asked, so that a further service would be missed here.
    """
    endpoints = {
        resource["Properties"]["ServiceName"].rpartition(".")[2]: name
        for name, resource in all_resources.items()
        if resource["Type"] == "AWS::EC2::VPCEndpoint"
    }
    variables = all_resources["Dispatcher"]["Properties"]["Environment"]["Variables"]
    asked = {
        service
        for path in ("core", "handlers")
        for file in (documents.ROOT / path).rglob("*.py")
        for service in re.findall(r'_client\("(\w+)"\)', file.read_text())
    }

    program = (
        "import botocore.session, sys\n"
        "session = botocore.session.get_session()\n"
        "for service in sys.argv[1:]:\n"
        "    client = session.create_client(service)\n"
        "    print(service, client.meta.endpoint_url, client.meta.region_name)"
    )
    given = {key: text for key, text in variables.items() if key.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", program, *endpoints],
        env={"AWS_DEFAULT_REGION": "eu-west-1", "PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        check=True,
    )

    assert asked == set(endpoints)
    assert done.stdout.splitlines() == [
        f"{service} https://{name}.DnsEntries eu-west-1" for service, name in endpoints.items()
    ]
    for name in endpoints.values():
        assert all_resources[name]["Properties"]["PrivateDnsEnabled"] is False


@pytest.mark.parametrize(
    ("partition", "other_names"), [("aws-cn", {"rds", "sqs"}), ("aws-us-gov", set())]
)
def test_endpoints_have_the_names_of_their_partition(partition: str, other_names: set[str]) -> None:
    """China has other ones for some services (aws/aws-cdk, pull requests 16139 and 25333)."""
    resources = cloudformation.resolve(EVERYTHING | {"AWS::Partition": partition})
    names = [
        resource["Properties"]["ServiceName"]
        for resource in resources.values()
        if resource["Type"] == "AWS::EC2::VPCEndpoint"
    ]

    found = {name.rpartition(".")[2] for name in names if name.startswith("cn.com.amazonaws.us-")}
    assert found == other_names
    assert sum(name.startswith("com.amazonaws.us-") for name in names) == 6 - len(found)


def test_the_topic_needs_its_endpoint_only_where_there_is_a_topic() -> None:
    """Else nothing says where one would be."""
    resources = cloudformation.resolve(EVERYTHING | {"ResultTopic": ""})

    variables = resources["Dispatcher"]["Properties"]["Environment"]["Variables"]
    assert "TopicEndpoint" not in resources
    assert "AWS_ENDPOINT_URL_SNS" not in variables
    assert "AWS_ENDPOINT_URL_RDS" in variables


def test_without_a_vpc_there_is_no_network(resources: dict[str, Any]) -> None:
    """The function reaches public instances, and nothing is billed by the hour."""
    assert not [name for name, it in resources.items() if it["Type"].startswith("AWS::EC2::")]
    assert "VpcConfig" not in resources["Dispatcher"]["Properties"]
    variables = resources["Dispatcher"]["Properties"]["Environment"]["Variables"]
    assert not [name for name in variables if name.startswith("AWS_")]


def test_own_security_groups_are_used() -> None:
    """Then the stack makes none, and its endpoints admit the first."""
    resources = cloudformation.resolve(
        {
            "VpcId": "vpc-1",
            "SubnetIds": "subnet-1",
            "SecurityGroupIds": "sg-1,sg-2",
            "CreateEndpoints": "true",
        }
    )
    function = resources["Dispatcher"]["Properties"]

    assert "SecurityGroup" not in resources
    assert function["VpcConfig"]["SecurityGroupIds"] == ["sg-1", "sg-2"]
    assert function["Environment"]["Variables"]["DAY2_SECURITY_GROUP_IDS"] == "sg-1,sg-2"
    (admitted,) = resources["EndpointSecurityGroup"]["Properties"]["SecurityGroupIngress"]
    assert admitted["SourceSecurityGroupId"] == "sg-1"


def test_the_alarms_ring_for_what_matters(all_resources: dict[str, Any]) -> None:
    """Each metric of ours that an alarm looks at is one that the function emits."""
    alarms = {
        name: resource["Properties"]
        for name, resource in all_resources.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }

    watched = {
        (alarm["Namespace"], alarm["MetricName"], alarm["Dimensions"][0]["Value"])
        for alarm in alarms.values()
        if "MetricName" in alarm
    }
    assert watched == {
        ("day2", "InstancesBehind", "day2"),
        ("day2", "InstancesBlocked", "day2"),
        ("day2", "MigrationFailures", "day2"),
        ("day2", "OldestBehindSeconds", "day2"),
        ("day2", "ReportingFailed", "day2"),
        ("day2", "RevisionFilesChanged", "day2"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "Failures.QueueName"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "Undelivered.QueueName"),
        ("AWS/Lambda", "AsyncEventAge", "Dispatcher"),
        ("AWS/Lambda", "AsyncEventsDropped", "Dispatcher"),
    }
    assert {metric for namespace, metric, _ in watched if namespace == "day2"} <= METRICS
    told = {row[0].strip("`") for row in documents.rows("infra/OPERATIONS.md", "alarm")}
    assert {alarm["AlarmName"] for alarm in alarms.values()} == {f"day2-{one}" for one in told}
    assert alarms["NearTimeoutAlarm"]["Metrics"][0]["Expression"] == "duration / (900 * 10)"
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == ["arn:aws:sns:us-east-1:000000000000:alarms"]
        assert alarm["AlarmDescription"]


def test_the_dashboard_shows_what_is_measured(resources: dict[str, Any]) -> None:
    """All alarms, every instance's revision, only metrics that exist, and no overlap."""
    body = json.loads(resources["Dashboard"]["Properties"]["DashboardBody"])
    cells: set[tuple[int, int]] = set()
    for widget in body["widgets"]:
        area = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not area & cells
        assert max(x for x, _ in area) < 24
        cells |= area

    alarms = [name for name, it in resources.items() if it["Type"] == "AWS::CloudWatch::Alarm"]
    (alarm_widget,) = (w["properties"] for w in body["widgets"] if w["type"] == "alarm")
    (log_widget,) = (w["properties"] for w in body["widgets"] if w["type"] == "log")
    shown = {
        metric[1]
        for widget in body["widgets"]
        for metric in widget["properties"].get("metrics", [])
        if metric[0] == "day2"
    }
    assert alarm_widget["alarms"] == [f"{name}.Arn" for name in alarms]
    assert 'filter message = "run finished"' in log_widget["query"]
    assert shown <= METRICS


def test_the_table_of_costs_counts_what_there_is(
    resources: dict[str, Any], all_resources: dict[str, Any]
) -> None:
    """Alarms and endpoints of the template, the logins of the example revisions, and its sums."""

    def priced(start: str) -> list[float]:
        (row,) = (one for one in table if one[0].startswith(start))
        return [float(cell.replace(",", "")) for cell in row[1:]]

    def count(of: dict[str, Any], kind: str) -> int:
        return sum(one["Type"] == kind for one in of.values())

    table = documents.rows("infra/OPERATIONS.md", "a month")
    revisions = OURS.versions.glob("*.py")
    logins = {
        login for file in revisions for login in re.findall(r'"(\w+_user)"', file.read_text())
    }
    endpoints = count(all_resources, "AWS::EC2::VPCEndpoint") - 1  # the topic's
    rows = [priced(row[0]) for row in table]

    assert priced("login secrets") == [round(len(logins) * 0.4 * n, 2) for n in (10, 100, 1000)]
    assert priced("alarms") == [round(count(resources, "AWS::CloudWatch::Alarm") * 0.1, 2)] * 3
    assert priced("`CreateEndpoints`") == [round(endpoints * 2 * 730 * 0.01, 2)] * 3
    assert priced("sum") == [round(sum(column), 2) for column in zip(*rows[:-2], strict=True)]


def test_a_suppressed_finding_says_why() -> None:
    """Beside it, in a sentence."""
    resources = cloudformation.load()["Resources"]
    skipped = [
        finding
        for resource in resources.values()
        for finding in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]

    assert skipped
    assert all(len(finding["comment"]) > 40 for finding in skipped)


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_keeps_its_events_encrypted_for_two_weeks(
    queue: str, resources: dict[str, Any], all_resources: dict[str, Any]
) -> None:
    """By the service's own key, or by the customer's."""
    by_default, by_key = (it[queue]["Properties"] for it in (resources, all_resources))

    assert by_default["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert by_default["SqsManagedSseEnabled"] is True
    assert by_key["KmsMasterKeyId"] == KEY


def test_only_the_record_of_what_was_done_outlives_the_stack(resources: dict[str, Any]) -> None:
    """And not that of a stack whose creation failed, which would be in the way of the next."""
    kept = {name for name, resource in resources.items() if "DeletionPolicy" in resource}

    assert kept == {"Log", "Failures", "Undelivered"}
    for name in kept:
        assert resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resources[name]["UpdateReplacePolicy"] == "Retain"


def test_the_function_has_one_whole_processor(resources: dict[str, Any]) -> None:
    """Lambda's guide, "Configure Lambda function memory": at 1,769 MB."""
    assert resources["Dispatcher"]["Properties"]["MemorySize"] == "1769"


def test_the_template_can_be_sent_as_it_is() -> None:
    """CloudFormation takes a megabyte from a bucket, and knows no YAML anchors."""
    text = cloudformation.PATH.read_text()
    (command,) = re.findall(r"^\taws cloudformation deploy .*", DEPLOY.read_text(), re.MULTILINE)

    assert len(text.encode()) <= 1_000_000
    assert "--s3-bucket $(BUCKET)" in command
    assert not re.search(r"(: [&*]\w)|(<<:)", text)
