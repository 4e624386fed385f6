"""Whoever waits for the function at a terminal is told so, and whoever is answered is not."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from infra import invoke
from tests.equipment.waiting import wait_for

SAID = re.compile(r"waiting for day2-dispatcher, \d+ s so far: ")
SILENT = ReadTimeoutError(endpoint_url="https://lambda.example")
CUT = ConnectionClosedError(endpoint_url="https://lambda.example")


@dataclass
class Slow:
    """Lambda, whose function takes its time, or never answers."""

    fails: BaseException | None = None
    takes: Callable[[], object] = bool
    times: int = 0

    def invoke(self, **_: Any) -> dict[str, Any]:
        """Answer after a while."""
        self.times += 1
        self.takes()
        if self.fails is not None:
            raise self.fails
        return {
            "Payload": io.BytesIO(b'{"body": {"success": true}}'),
            "ResponseMetadata": {"RequestId": "7f2c"},
        }


def test_a_slow_answer_is_announced_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, so that jq can read the answer."""
    begun = time.monotonic()
    with redirect_stderr(io.StringIO()) as said:
        slow = Slow(takes=lambda: wait_for(lambda: "\n" in said.getvalue()[:-1], "two lines"))
        call = invoke.send(slow, "day2-dispatcher", {}, say_seconds=0.02)
    most = (time.monotonic() - begun) / 0.02

    lines = said.getvalue().splitlines()
    assert call.succeeded
    assert capsys.readouterr().out == ""
    assert 2 <= len(lines) <= most
    assert [one for one in lines if not SAID.match(one)] == []


def test_a_quick_answer_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is anything said once it is there, or once it has failed."""
    threads = threading.active_count()

    invoke.send(Slow(), "day2-dispatcher", {}, say_seconds=60)
    with pytest.raises(ReadTimeoutError):
        invoke.send(Slow(SILENT), "day2-dispatcher", {}, say_seconds=60)

    assert threading.active_count() == threads
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        (SILENT, "did not answer within 915 s and may still run"),
        (CUT, "was left before it answered and may still run"),
        (KeyboardInterrupt(), "was left before it answered and may still run"),
    ],
    ids=["silent", "cut off", "interrupted"],
)
def test_whoever_gets_no_answer_is_told_not_to_send_again(fails: BaseException, told: str) -> None:
    """It is sent once, and may have changed something."""
    function = Slow(fails)

    class Found:
        def describe_stacks(self, **_: Any) -> Any:
            names = {"FunctionName": "day2-dispatcher", "LogGroupName": "/aws/lambda/x"}
            outputs = [{"OutputKey": key, "OutputValue": text} for key, text in names.items()]
            return {"Stacks": [{"Outputs": outputs}]}

        def get_function_configuration(self, **_: Any) -> Any:
            return {"Timeout": 900}

    def client(service: str, **options: Any) -> Any:
        return function if options else Found() if service else None

    with pytest.raises(invoke.NotAnsweredError, match=told):
        invoke.once(client, "day2", {})

    assert function.times == 1


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"instance": "orders", "action": "plan"}, True),
        ({"instance": "orders", "action": "rollback"}, False),
        ({"instance": "orders"}, False),
        ({"action": "status", "source": "day2", "detail-type": "Migration Requested"}, False),
        ([{"action": "status"}], False),
        ({"action": ["status"]}, False),
    ],
)
def test_only_who_looks_is_not_asked(event: Any, *, expected: bool) -> None:
    """An event says in its detail what it asks for, whatever stands beside that."""
    assert invoke.changes_nothing(event) is expected
