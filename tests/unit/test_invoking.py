"""Whoever waits for the function at a terminal is told so, and whoever is answered is not."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from infra import invoke


@dataclass
class Slow:
    """Lambda, whose function takes its time, or never answers."""

    seconds: float
    answers: bool = True

    def invoke(self, **_: Any) -> dict[str, Any]:
        """Answer after a while."""
        time.sleep(self.seconds)
        if not self.answers:
            raise ReadTimeoutError(endpoint_url="https://lambda.example")
        return {
            "Payload": io.BytesIO(b'{"body": {"success": true}}'),
            "ResponseMetadata": {"RequestId": "7f2c"},
        }


def test_a_slow_answer_is_announced_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, so that jq can read the answer."""
    call = invoke.send(Slow(0.1), "day2-dispatcher", {}, say_seconds=0.02)

    said = capsys.readouterr()
    assert call.succeeded
    assert said.out == ""
    assert 2 <= len(said.err.splitlines()) <= 5
    (line,) = set(said.err.splitlines())
    assert line.startswith("waiting for day2-dispatcher, 0 s so far: ")


def test_a_quick_answer_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is anything said once it is there, or once it has failed."""
    invoke.send(Slow(0), "day2-dispatcher", {}, say_seconds=0.02)
    with pytest.raises(ReadTimeoutError):
        invoke.send(Slow(0, answers=False), "day2-dispatcher", {}, say_seconds=0.02)
    time.sleep(0.05)

    assert capsys.readouterr().err == ""
