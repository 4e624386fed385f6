"""A list of the AWS calls that functions make, for the tests of what their role must allow."""

import json
import os
from pathlib import Path
from typing import Any

from localstack.aws import handlers
from localstack.aws.api import RequestContext

FILE = "aws-calls.jsonl"

# botocore says in each call that it runs on Lambda; the tests' own clients do not.
_FUNCTION = "exec-env/AWS_Lambda_"

# What a policy can be about.  Never a value: secrets go through here.
_NAMES = (
    "DBClusterIdentifier",
    "DBInstanceIdentifier",
    "DBSubnetGroupName",
    "Name",
    "Names",
    "Path",
    "QueueUrl",
    "SecretId",
    "TopicArn",
)


def record_calls() -> None:
    """Have LocalStack write down each call of a function, in the state folder."""
    handlers.run_custom_response_handlers.append(_record)


def _record(_chain: Any, context: RequestContext, _response: Any) -> None:
    if not context.operation or not context.service:
        return
    if _FUNCTION not in context.request.headers.get("User-Agent", ""):
        return
    request: dict[str, Any] = dict(context.service_request or {})
    arguments = {name: request[name] for name in _NAMES if name in request}
    if "Entries" in request:
        arguments["Entries"] = [{"Source": entry["Source"]} for entry in request["Entries"]]
    action = f"{context.service.signing_name}:{context.operation.name}"
    line = json.dumps({"action": action, "arguments": arguments})
    # One write is one line, also when several functions call at once.
    with (Path(os.environ["DAY2_LOCAL_STATE"]) / FILE).open("a") as file:
        file.write(line + "\n")
