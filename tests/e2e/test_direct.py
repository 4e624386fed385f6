"""Direct requests: the contract with outside callers, on the deployed function."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.local import stack
from tests.e2e.account import Account

NAME = "direct"
SECRET = "direct-master"
PASSWORD = "%p4ss'w0rd:?#&"


@pytest.fixture(scope="module", autouse=True)
def instance(account: Account) -> Iterator[None]:
    """Make an instance without the tag, whose secret is its team's own."""
    account.create(NAME, tagged=False, MasterUserPassword=PASSWORD, EngineVersion="18")
    endpoint = account.has_become(NAME, "available")["Endpoint"]
    secret = {
        "engine": "postgres",
        "host": endpoint["Address"],
        "port": endpoint["Port"],
        "username": "postgres",
        "password": PASSWORD,
        "dbname": "shop",
    }
    secrets = account.client("secretsmanager")
    secrets.create_secret(Name=SECRET, SecretString=json.dumps(secret))
    yield
    secrets.delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)
    account.remove(NAME)


def test_bare_secret_is_migrated_to_head(account: Account) -> None:
    """One revision on request, then head, then nothing left; all that is told is told by field."""
    one = account.invoke(secret_name=SECRET, action="migrate", target_revision="001")
    head = account.invoke(secret_name=SECRET)
    again = account.invoke(secret_name=SECRET, action="migrate", target_revision="head")
    status = account.ask(secret_name=SECRET, action="status")

    body = {
        "success": True,
        "message": "Successfully applied 1 migration(s) to reach 001",
        "outcome": "APPLIED",
        "applied_migrations": ["001"],
        "final_revision": "001",
        "previous_revision": None,
        "target_revision": "001",
        "target_source": "request",
        "instance": NAME,
        "database": "shop",
        "pending_migrations": [],
        "duration_ms": one.response["body"]["duration_ms"],
        "request_id": one.request_id,
    }
    assert one.response == {"statusCode": 200, "body": body}
    assert head.response["body"]["applied_migrations"] == ["002", "003", "004"]
    assert head.response["body"]["target_revision"] == "head"
    assert head.response["body"]["target_source"] == "default"
    assert again.response["body"]["outcome"] == "UP_TO_DATE"
    assert again.response["body"]["target_source"] == "request"
    assert (status["head_revision"], status["pending_migrations"]) == ("004", [])
    for call in (one, head, again):
        assert PASSWORD not in call.log


def test_failure_is_answered(account: Account) -> None:
    """A direct caller reads statusCode and success."""
    call = account.invoke(instance="nobody-of-this-name")

    assert call.function_error is None
    assert call.response["statusCode"] == 404
    assert call.response["body"]["success"] is False
    assert call.response["body"]["outcome"] == "NOT_FOUND"


def test_failure_is_raised_where_that_is_asked(account: Account) -> None:
    """For Step Functions, CI and asynchronous callers."""
    call = account.invoke(instance="nobody-of-this-name", raise_on_failure=True)

    assert call.function_error == "Unhandled"
    assert call.response["errorType"] == "NoSuchInstance"
    assert "nobody-of-this-name" in call.response["errorMessage"]


def test_server_with_an_unknown_certificate_gets_no_password(account: Account) -> None:
    """Told to trust RDS's own roots alone, the function refuses the local AWS's certificates."""
    with another_function(account, DAY2_CA_FILE="") as name:
        call = account.invoke(name, secret_name=SECRET, action="status")

    assert call.response["statusCode"] == 502
    assert call.response["body"]["outcome"] == "UNTRUSTED_SERVER"
    assert PASSWORD not in call.log


@contextmanager
def another_function(account: Account, **changed: str) -> Iterator[str]:
    """Make a function like the deployed one but for some variables, and yield its name."""
    client, name = account.client("lambda"), "dispatcher-with-other-variables"
    (found,) = account.client("cloudformation").describe_stacks(StackName=stack.STACK)["Stacks"]
    given = {one["ParameterKey"]: one["ParameterValue"] for one in found["Parameters"]}
    like = client.get_function_configuration(FunctionName=account.outputs["FunctionName"])
    client.create_function(
        FunctionName=name,
        Code={"S3Bucket": given["ArtifactBucket"], "S3Key": given["FunctionKey"]},
        Layers=[layer["Arn"] for layer in like["Layers"]],
        Environment={"Variables": like["Environment"]["Variables"] | changed},
        **{key: like[key] for key in ("Runtime", "Handler", "Role", "Timeout", "MemorySize")},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    yield name
    client.delete_function(FunctionName=name)
