"""
Every AWS call that ``core.aws`` makes while the tests run, wherever they are.

In this process botocore's own hooks tell. A child process has one of our small AWSs for its
account, which tells what arrived; and LocalStack keeps a list of what its functions call.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from botocore import handlers

from infra.local.state import State

Call = tuple[str, dict[str, Any]]

CALLS: list[Call] = []


def install() -> None:
    """Have every botocore session that is made from now on tell of its calls."""
    handlers.BUILTIN_HANDLERS.append(("before-call.*.*", _record))
    handlers.BUILTIN_HANDLERS.append(("before-sign.rds.connect", _record_token))


def _is_ours() -> bool:
    """Say whether ``core.aws`` is what calls: the tests have clients of their own."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "core.aws":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _record(*, model: Any, params: Mapping[str, Any], **_: Any) -> None:
    if _is_ours():
        body = params["body"]
        if isinstance(body, bytes | str) and body:
            body = json.loads(body)
        service = model.service_model.signing_name
        CALLS.append((f"{service}:{model.name}", dict(body)))


def _record_token(*, request: Any, **_: Any) -> None:
    if _is_ours():
        CALLS.append(("rds-db:connect", dict(request.data)))


def local_calls() -> list[Call]:
    """Return what the functions of this run's LocalStack have called, if there is one."""
    file = State.of_process().folder / "aws-calls.jsonl"
    if not file.exists():
        return []
    return [
        (line["action"], line["arguments"])
        for line in map(json.loads, file.read_text().splitlines())
    ]
