"""The stack on the local AWS: the real template, a package of this checkout, its function."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from core.errors import RunFailed
from core.revisions.folder import Folder
from infra import package
from infra.invoke import Call, send
from infra.local.local_aws import LocalAws, LocalAwsError
from infra.local.state import CHECKOUT
from infra.migrations import chosen

TEMPLATE = CHECKOUT / "infra" / "template.yaml"
BUCKET = "day2-artifacts"
STACK = "day2"
FUNCTION = f"{STACK}-dispatcher"
DEPLOY_SECONDS = 120


def deploy(
    aws: LocalAws,
    *,
    stack: str = STACK,
    parameters: Mapping[str, str] | None = None,
    migrations: Folder | None = None,
) -> dict[str, str]:
    """
    Package this checkout for the running Python, create or update *stack*, and return its outputs.

    Without *migrations* those are deployed that the command was given.

    Raises:
        LocalAwsError: The migrations cannot be packaged, or CloudFormation refused; holds its
            reasons.
    """
    try:
        built = package.build(package.OUTPUT / "local", migrations=migrations or chosen())
    except (package.PackageError, RunFailed) as error:
        raise LocalAwsError(str(error)) from error
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for key, file in built.archives.items():
        if "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix=key):
            s3.upload_file(str(file), BUCKET, key)
    # From a bucket, as make deploy sends it: in a request it could have 51,200 bytes only.
    s3.upload_file(str(TEMPLATE), BUCKET, TEMPLATE.name)
    values = {
        "ArtifactBucket": BUCKET,
        "FunctionKey": built.function_key,
        "LayerKey": built.layer_key,
        "MigrationsKey": built.migrations_key,
        "Runtime": built.runtime,
        "Architecture": built.architecture,
        "CaFile": str(aws.state.ca_file),
        **(parameters or {}),
    }
    cloudformation = aws.client("cloudformation")
    request = {
        "StackName": stack,
        "TemplateURL": f"{aws.endpoint_url}/{BUCKET}/{TEMPLATE.name}",
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        "Parameters": [
            {"ParameterKey": name, "ParameterValue": value} for name, value in values.items()
        ],
    }
    try:
        if _status(cloudformation, stack) is None:
            cloudformation.create_stack(**request)
        else:
            cloudformation.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
    return _wait_until_complete(cloudformation, stack)


def invoke(aws: LocalAws, event: Any, *, function: str = FUNCTION) -> Call:
    """Invoke *function* with *event* and wait for its answer and its whole log."""
    call = send(aws.client("lambda"), function, event)
    # Lambda tells the last 4 KB only.
    return replace(call, log=(aws.state.calls / f"{call.request_id}.log").read_text())


def missing(aws: LocalAws, event: Any) -> list[tuple[str, str]]:
    """Return kind and name of what a direct request names and the local AWS does not have."""
    if not isinstance(event, dict) or "source" in event:
        return []
    found = []
    for field, kind in (("secret_name", "secret"), ("instance", "instance")):
        name = event.get(field)
        if not isinstance(name, str) or not name:
            continue
        if kind == "secret":
            there = _exists(aws.client("secretsmanager").describe_secret, SecretId=name)
        else:
            rds = aws.client("rds")
            there = _exists(rds.describe_db_instances, DBInstanceIdentifier=name) or _exists(
                rds.describe_db_clusters, DBClusterIdentifier=name
            )
        if not there:
            found.append((kind, name))
    return found


def _exists(describe: Callable[..., Any], **named: str) -> bool:
    """Tell whether AWS knows what *describe* is asked for."""
    try:
        describe(**named)
    except ClientError as error:
        return "NotFound" not in error.response["Error"]["Code"]
    return True


def _status(cloudformation: Any, stack: str) -> str | None:
    """Return the stack's status; None when there is none that can be updated."""
    try:
        status = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    if status in ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"):
        cloudformation.delete_stack(StackName=stack)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=stack, WaiterConfig={"Delay": 1}
        )
        return None
    return str(status)


def _wait_until_complete(cloudformation: Any, stack: str) -> dict[str, str]:
    """Wait for the stack to be there, and return its outputs."""
    deadline = time.monotonic() + DEPLOY_SECONDS
    while time.monotonic() < deadline:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        status = found["StackStatus"]
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])}
        if "FAILED" in status or "ROLLBACK" in status:
            raise LocalAwsError(f"stack {stack} is {status}:\n{_reasons(cloudformation, stack)}")
        time.sleep(0.2)
    raise LocalAwsError(f"stack {stack} was not complete in {DEPLOY_SECONDS} s")


def _reasons(cloudformation: Any, stack: str) -> str:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return "\n".join(
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
        for event in events
        if "FAILED" in event["ResourceStatus"]
    )
