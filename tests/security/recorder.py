"""
Every AWS call that ``core.aws`` makes while the tests run, wherever they are.

In this process botocore's own hooks tell. A child process has one of our small AWSs for its
account, which tells what arrived; and LocalStack keeps a list of what its functions call.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import parse_qsl

from botocore import handlers

from infra.local.state import State
from tests.equipment.small_aws import AwsCall

CALLS: list[AwsCall] = []

# How IAM calls what botocore calls otherwise.
_SERVICES = {"secrets-manager": "secretsmanager", "eventbridge": "events"}


def install() -> None:
    """Have every botocore session that is made from now on tell of its calls."""
    # What a Stubber answers is never sent, and so needs no right.
    handlers.BUILTIN_HANDLERS.append(("before-send.*.*", _record))
    handlers.BUILTIN_HANDLERS.append(("before-sign.rds.connect", _record_token))


def _is_ours() -> bool:
    """Say whether ``core.aws`` is what calls: the tests have clients of their own."""
    frame = sys._getframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("core.aws."):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _record(*, request: Any, event_name: str, **_: Any) -> None:
    if _is_ours():
        _, service, operation = event_name.split(".")
        body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
        sent = json.loads(body) if body.startswith("{") else dict(parse_qsl(body))
        CALLS.append(AwsCall(f"{_SERVICES.get(service, service)}:{operation}", sent))


def _record_token(*, request: Any, **_: Any) -> None:
    if _is_ours():
        # Its user is a parameter of the stack, whatever a test calls it.
        CALLS.append(AwsCall("rds-db:connect", dict(request.data) | {"DBUser": "postgres"}))


def local_calls() -> list[AwsCall]:
    """Return what the functions of this run's LocalStack have called, if there is one."""
    file = State.of_process().folder / "aws-calls.jsonl"
    if not file.exists():
        return []
    return [
        AwsCall(line["action"], line["arguments"])
        for line in map(json.loads, file.read_text().splitlines())
    ]
