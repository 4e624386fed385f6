"""The stack on the local AWS: the real template, a package of this checkout, its function."""

import functools
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from core.errors import RunFailed
from core.revisions.folder import Folder
from infra import package
from infra.invoke import Call, send
from infra.local.local_aws import LocalAws, LocalAwsError
from infra.local.parameters import ParametersError, value_text
from infra.local.parameters import read as read_parameters
from infra.local.state import CHECKOUT
from infra.migrations import chosen

TEMPLATE = CHECKOUT / "infra" / "template.yaml"
BUCKET = "day2-artifacts"
STACK = "day2"
FUNCTION = f"{STACK}-dispatcher"
DEPLOY_SECONDS = 120
# What deploy gives by itself.
_OWN = (
    "ArtifactBucket",
    "FunctionKey",
    "LayerKey",
    "MigrationsKey",
    "Runtime",
    "Architecture",
    "CaFile",
)
AWAKE_SECONDS = 60
AGAIN_SECONDS = 3


def given(text: str) -> dict[str, str]:
    """
    Return the values of the template's parameters in *text*, such as ``AllowRollback=true``.

    Raises:
        ParametersError: The template does not take them, or the deployment gives them itself.
    """
    values = read_parameters(text, _declared())
    for name in values:
        if name in _OWN:
            raise ParametersError(f"{name} is what the deployment itself gives: leave it out")
    return values


def up(aws: LocalAws, text: str = "") -> dict[str, str]:
    """
    Deploy the stack with the parameters that are given in *text*, and return its outputs.

    Those that are not given keep their values, as on AWS, until ``make down``. When it returns, an
    event reaches what was deployed.

    Raises:
        ParametersError: The template does not take them; nothing was changed.
        LocalAwsError: CloudFormation refused, or no event has reached the function.
    """
    values = given(text)
    # One command after the other: what both change at once is neither's.
    with aws.state.locked():
        kept = {
            name: value
            for name, value in _values(aws.client("cloudformation")).items()
            if name in _declared() and name not in _OWN
        }
        return deploy(aws, parameters={**kept, **values}, is_probed=True)


def deploy(
    aws: LocalAws,
    *,
    stack: str = STACK,
    parameters: Mapping[str, str] | None = None,
    migrations: Folder | None = None,
    template: Path = TEMPLATE,
    is_probed: bool = False,
) -> dict[str, str]:
    """
    Package this checkout for the running Python, create or update *stack*, and return its outputs.

    Without *migrations* those are deployed that the command was given. If *is_probed*, a deployment
    that changed something is not done before an event got through.

    Raises:
        LocalAwsError: The migrations cannot be packaged, or CloudFormation refused; holds its
            reasons. Or no event got through.
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
    s3.upload_file(str(template), BUCKET, TEMPLATE.name)
    values = {
        # LocalStack takes a parameter that is newly given for a change of all that is made with it,
        # and so a function for another one: each is given every time.
        **{
            name: value_text(one["Default"])
            for name, one in _declared().items()
            if "Default" in one
        },
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
        is_there = settled(cloudformation, stack) is not None
        known = {event["EventId"] for event in _failures(cloudformation, stack)}
        if not is_there:
            cloudformation.create_stack(**request)
        else:
            cloudformation.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
        is_probed = False
    outputs = _wait_until_complete(cloudformation, stack)
    # LocalStack may say that an update is complete of which a part has failed.
    failed = [one for one in _failures(cloudformation, stack) if one["EventId"] not in known]
    if failed:
        raise LocalAwsError(
            f"stack {stack} was not updated:\n{_reasons(failed)}\n"
            "make down, then make up, begins anew"
        )
    if is_probed:
        _wait_until_awake(aws, values.get("Prefix") or stack)
    return outputs


def invoke(aws: LocalAws, event: Any, *, function: str = FUNCTION) -> Call:
    """
    Invoke *function* with *event* and wait for its answer and its whole log.

    Raises:
        LocalAwsError: The function is not deployed.
    """
    try:
        call = send(aws.client("lambda"), function, event)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        raise LocalAwsError(f"{function} is not deployed here: make up") from error
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


@functools.cache
def _declared() -> dict[str, Any]:
    """Return the parameters that the template declares."""
    from infra import template

    return dict(template.load()["Parameters"])


def settled(cloudformation: Any, stack: str) -> str | None:
    """
    Return the stack's status; None when there is none that can be updated.

    What another command has begun ends first, as on AWS, which refuses to change it meanwhile: the
    other may have been interrupted.
    """
    deadline = time.monotonic() + DEPLOY_SECONDS
    while True:
        try:
            status = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        if not status.endswith("_IN_PROGRESS"):
            break
        if time.monotonic() > deadline:
            raise LocalAwsError(f"stack {stack} is {status} for {DEPLOY_SECONDS} s: make down")
        time.sleep(0.2)
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
            raise LocalAwsError(
                f"stack {stack} is {status}:\n{_reasons(_failures(cloudformation, stack))}"
            )
        time.sleep(0.2)
    raise LocalAwsError(f"stack {stack} was not complete in {DEPLOY_SECONDS} s")


def _wait_until_awake(aws: LocalAws, prefix: str) -> None:
    """
    Wait until a parameter that is written wakes the function.

    That proves the whole way: the parameter's event, its rule, the function's queue and build.
    """
    ssm = aws.client("ssm")
    instance = f"awake-{secrets.token_hex(4)}"
    name = f"/{prefix}/{instance}/target-revision"
    deadline = time.monotonic() + AWAKE_SECONDS
    try:
        while time.monotonic() < deadline:
            ssm.put_parameter(Name=name, Value="head", Type="String", Overwrite=True)
            again = time.monotonic() + AGAIN_SECONDS
            while time.monotonic() < again:
                if any(instance in file.read_text() for file in aws.state.calls.glob("*.log")):
                    return
                time.sleep(0.1)
    finally:
        ssm.delete_parameter(Name=name)
    raise LocalAwsError(
        f"stack {prefix} is deployed, but no event woke its function within {AWAKE_SECONDS} s: "
        f"make down, then make up; see {aws.state.log}"
    )


def _values(cloudformation: Any, stack: str = STACK) -> dict[str, str]:
    """Return the values of the parameters of *stack*; none where there is no such stack."""
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError:
        return {}
    return {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])}


def _failures(cloudformation: Any, stack: str) -> list[dict[str, Any]]:
    """Return the events of *stack* that tell of a failure; none where there is no stack."""
    try:
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    except ClientError:
        return []
    return [event for event in events if "FAILED" in event["ResourceStatus"]]


def _reasons(failures: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"  {event['LogicalResourceId']}: {event['ResourceStatusReason']}"
        for event in failures
        if event.get("ResourceStatusReason")
    )
