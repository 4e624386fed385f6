"""The operator's command on AWS: one request, waited for, and an exit status."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest

from infra import invoke
from tests.equipment.documents import ROOT

STACKS = """<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">
<DescribeStacksResult><Stacks><member><StackName>day2</StackName><Outputs>
<member><OutputKey>FunctionName</OutputKey><OutputValue>day2-dispatcher</OutputValue></member>
<member><OutputKey>LogGroupName</OutputKey><OutputValue>/aws/lambda/day2-dispatcher</OutputValue>
</member></Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"""
IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>
</GetCallerIdentityResponse>"""
LOG = """START RequestId: request-1 Version: $LATEST
{"level": "INFO", "message": "002: applied", "revision": "002"}
END RequestId: request-1
"""
STATUS = '{"instance": "orders", "action": "status"}'
MIGRATE = '{"instance": "orders"}'


@dataclass
class Lambda:
    """What stands in for AWS: what was sent to its function, and how that answers."""

    status: int = 200
    answer: Any = field(default_factory=lambda: {"statusCode": 200, "body": {"success": True}})
    error: str | None = None
    seconds: float = 0
    timeout: int = 1
    sent: list[Any] = field(default_factory=list)


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    """Return the function of a stack in the account that the shell's credentials are for."""
    it = Lambda()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/invocations"):
                it.sent.append(json.loads(body))
                time.sleep(it.seconds)
                log = base64.b64encode(LOG.encode()).decode()
                headers = {"x-amz-log-result": log, "x-amzn-requestid": "request-1"}
                if it.error:
                    headers["x-amz-function-error"] = it.error
                self.answer(it.status, json.dumps(it.answer), headers)
            else:
                self.answer(200, STACKS if b"DescribeStacks" in body else IDENTITY, {})

        def do_GET(self) -> None:
            self.answer(200, json.dumps({"Timeout": it.timeout}), {})

        def answer(self, status: int, text: str, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(text))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
            """Tell nobody."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "production",
            "AWS_SECRET_ACCESS_KEY": "production",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_MAX_ATTEMPTS": "5",
        }.items():
            monkeypatch.setenv(name, value)
        yield it
        server.shutdown()


def test_answer_and_log_are_printed(function: Lambda, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer alone is what jq reads; the place is named. What only reads needs no yes."""
    assert invoke.main(["--payload", STATUS]) == 0

    told = capsys.readouterr()
    assert json.loads(told.out) == function.answer
    assert "account 123456789012, region eu-central-1, stack day2" in told.err
    assert told.err.endswith("\nINFO    002  applied\n")
    assert function.sent == [json.loads(STATUS)]


def test_the_log_is_printed_as_it_is_where_that_is_wanted(
    function: Lambda, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ``LOG=raw``."""
    monkeypatch.setenv("LOG", "raw")
    assert invoke.main(["--payload", STATUS]) == 0

    told = capsys.readouterr()
    assert json.loads(told.out) == function.answer
    assert told.err.endswith(LOG)


def test_what_may_change_something_wants_a_yes(
    function: Lambda, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is there to be asked: nothing is sent."""
    assert invoke.main(["--payload", MIGRATE]) == 1
    assert "give --yes to invoke it" in capsys.readouterr().err
    assert function.sent == []

    assert invoke.main(["--payload", MIGRATE, "--yes"]) == 0
    assert function.sent == [json.loads(MIGRATE)]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"statusCode": 500, "body": {"success": False}}, None),
        ({"errorMessage": "it ended"}, "Unhandled"),
    ],
    ids=["an answer that is no success", "an exception"],
)
def test_a_failure_is_the_exit_status(function: Lambda, answer: Any, error: str | None) -> None:
    """So that a pipeline stops."""
    function.answer, function.error = answer, error

    assert invoke.main(["--payload", STATUS]) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refusal_is_not_tried_again(
    function: Lambda, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it was run, nobody can tell; whatever the shell says of attempts."""
    function.status = status

    assert invoke.main(["--payload", MIGRATE, "--yes"]) == 1
    assert len(function.sent) == 1
    assert "Invoke" in capsys.readouterr().err


def test_it_waits_as_long_as_the_function_may_run_and_sends_nothing_twice(
    function: Lambda,
) -> None:
    """And then says what to do, since a run may still be going on."""
    client = boto3.session.Session().client
    function.timeout, function.seconds = 60, 0.5
    assert invoke.once(client, "day2", json.loads(MIGRATE), answer_seconds=0.2).succeeded

    function.timeout, function.seconds = 1, 10
    with pytest.raises(invoke.NotAnsweredError, match=r"may still run: ask for the status"):
        invoke.once(client, "day2", json.loads(MIGRATE), answer_seconds=0.2)

    assert len(function.sent) == 2


@pytest.mark.parametrize("words", [["--payload", "{"], ["--event", "no/such/file.json"]])
def test_what_is_not_json_is_not_sent(
    words: list[str], function: Lambda, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names what was given."""
    assert invoke.main([*words, "--yes"]) == 2

    told = capsys.readouterr().err
    assert words[0] in told or words[1] in told
    assert function.sent == []


def test_a_plan_is_printed_as_sql(capsys: pytest.CaptureFixture[str]) -> None:
    """For psql to read; whatever is no plan is printed as the answer that it is."""
    body = json.loads((ROOT / "tests" / "golden" / "response_planned.json").read_text())
    planned = invoke.Call(body, None, "request-1", LOG)

    assert invoke.show_sql(planned) == 0
    assert capsys.readouterr().out == (
        "-- Would apply 1 migration(s) to reach 004\n\n"
        "-- 004: Audit logging and compliance\nCREATE SCHEMA IF NOT EXISTS audit;\n\n"
    )

    refused = {"statusCode": 404, "body": {"success": False}}
    assert invoke.show_sql(invoke.Call(refused, None, "request-1", LOG)) == 1
    assert json.loads(capsys.readouterr().out) == refused
