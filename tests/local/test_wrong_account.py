"""No command of the local AWS reaches another one: with it down, each says so in one line."""

from __future__ import annotations

import http.server
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra import account, invoke, orphans, redrive
from infra.local import __main__ as command_line
from infra.local import processes
from infra.local.local_aws import LocalAws

ROOT = Path(__file__).parents[2]
NOT_UP = "the local AWS is not up: make up"

NEED_IT = [
    ["failures"],
    ["redrive"],
    ["env"],
    ["invoke", "--payload={}"],
    ["plan", "--instance=orders"],
    ["database-up"],
    ["database-reset"],
    ["migrate"],
]
# They start it before they use it, say that it is down, or work on files only.
OTHERS = {"up", "demo", "down", "clean", "status", "programs"}
OTHERS |= {"revisions", "new_revision", "check_target"}


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Return the URL of what stands in for a real account, and the requests that reached it."""
    requests: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(self.path)
            self.send_error(500)

        do_GET = do_POST  # noqa: N815 - named by http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
            """Tell nobody."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


@pytest.fixture
def production(elsewhere: tuple[str, list[str]], tmp_path: Path) -> dict[str, str]:
    """Return a shell whose variables are for elsewhere, and whose local AWS is down."""
    configuration = tmp_path / "config"
    configuration.write_text(f"[default]\nretry_mode = bogus\nendpoint_url = {elsewhere[0]}\n")
    return os.environ | {
        "AWS_ENDPOINT_URL": elsewhere[0],
        "AWS_ENDPOINT_URL_SQS": elsewhere[0],
        "AWS_ACCESS_KEY_ID": "production",
        "AWS_SECRET_ACCESS_KEY": "production",
        "AWS_SESSION_TOKEN": "production",
        "AWS_PROFILE": "production",
        "AWS_CONFIG_FILE": str(configuration),
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_MAX_ATTEMPTS": "many",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_PAGER": "less",
        "HTTP_PROXY": elsewhere[0],
        "http_proxy": elsewhere[0],
        "no_proxy": "intra.example",
        "PGSERVICE": "production",
        "PGOPTIONS": "-c search_path=production",
        "DAY2_STATE": str(tmp_path / "state"),
    }


@pytest.mark.parametrize("command", NEED_IT, ids=lambda words: words[0])
def test_no_local_command_reaches_another_account(
    command: list[str], production: dict[str, str], elsewhere: tuple[str, list[str]]
) -> None:
    """It ends with one line and what to type."""
    ran = subprocess.run(
        [sys.executable, "-m", "infra.local", *command],
        cwd=ROOT,
        env=production,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (1, f"{NOT_UP}\n")
    assert ran.stdout == ("false\n" if command == ["env"] else "")
    assert elsewhere[1] == []


@pytest.mark.parametrize("target", ["failures", "redrive"])
def test_nor_does_a_target_of_make(
    target: str, production: dict[str, str], elsewhere: tuple[str, list[str]]
) -> None:
    """A recipe may go on after what failed in it."""
    ran = subprocess.run(
        ["make", "-s", target],
        cwd=ROOT,
        env=production,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 2
    assert ran.stderr.splitlines()[0] == NOT_UP
    assert elsewhere[1] == []


def test_a_shell_of_another_aws_is_no_hindrance(
    local_aws: LocalAws, production: dict[str, str], elsewhere: tuple[str, list[str]]
) -> None:
    """Of what it has, nothing counts; after make env, neither for its own clients."""
    production["DAY2_STATE"] = str(local_aws.state.folder)
    listed = subprocess.run(
        [sys.executable, "-m", "infra.local", "status"],
        cwd=ROOT,
        env=production,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (listed.returncode, listed.stderr) == (0, "")

    client = "import boto3; print(*boto3.client('sqs').list_queues().get('QueueUrls', ['none']))"
    python = shlex.quote(sys.executable)
    evaluated = f'eval "$({python} -m infra.local env)"'
    asked = subprocess.run(
        ["sh", "-c", f"{evaluated} && {python} -c {shlex.quote(client)} && env"],
        cwd=ROOT,
        env=production | {"AWS_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    kept = dict(line.split("=", 1) for line in asked.stdout.splitlines()[1:] if "=" in line)
    assert {name for name in kept if name.startswith(("AWS_", "PG"))} == {
        *local_aws.environment(),
        "AWS_PAGER",
    }
    assert kept["no_proxy"] == "intra.example,127.0.0.1,localhost"
    assert elsewhere[1] == []


def test_one_that_hangs_is_told_at_once(
    local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks does not wait for as long as a migration may take."""
    monkeypatch.setattr("infra.local.local_aws.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(command_line.State, "of_checkout", lambda: local_aws.state)
    pid = processes.read_pid(local_aws.state.pids / "localstack")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        for words in (["up"], ["status"], *NEED_IT):
            if words != ["env"]:
                assert command_line.main(words) == 1, words
                assert "does not answer" in capsys.readouterr().err
    finally:
        os.kill(pid, signal.SIGCONT)


def test_every_command_is_tried() -> None:
    """A new command has to be put into one of the two lists."""
    commands = {
        name
        for name, value in vars(command_line).items()
        if callable(value) and "arguments" in getattr(value, "__annotations__", {})
    }

    assert commands == OTHERS | {words[0].replace("-", "_") for words in NEED_IT}


@pytest.mark.parametrize(
    "command",
    [
        lambda: redrive.main(["--yes"]),
        lambda: redrive.main(["--list"]),
        lambda: orphans.main(["--delete", "--yes"]),
        lambda: invoke.main(["--yes", "--payload={}"]),
        lambda: account.main(["--stack=day2", "--yes", "deploy"]),
    ],
    ids=["redrive", "redrive --list", "orphans", "invoke", "account"],
)
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_PROFILE": "production"}, "(production) could not be found: correct AWS_PROFILE"),
        ({}, "Unable to locate credentials: set AWS_PROFILE, or log in"),
    ],
    ids=["a profile that is not there", "no credentials"],
)
def test_an_operator_without_an_account_is_told_so(
    command: Callable[[], int],
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line, and what to set."""
    usual = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "eu-central-1"}
    for name, value in (usual | variables).items():
        monkeypatch.setenv(name, value)

    assert command() == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert said in told.err


class _Stacks:
    """CloudFormation, with one stack or none."""

    def __init__(self, *stacks: dict[str, Any]) -> None:
        self._stacks = stacks

    def describe_stacks(self, **_: str) -> dict[str, Any]:
        """Answer as CloudFormation does."""
        if not self._stacks:
            error = {"Code": "ValidationError", "Message": "Stack with id shop does not exist"}
            raise ClientError({"Error": error}, "DescribeStacks")
        return {"Stacks": self._stacks}


@pytest.mark.parametrize(
    ("stacks", "said"),
    [
        ((), "there is no stack shop in this account and region: name it by --stack"),
        (({"StackStatus": "ROLLBACK_COMPLETE"},), "shop is ROLLBACK_COMPLETE and has no function"),
        (({"StackStatus": "CREATE_COMPLETE", "Outputs": []},), "shop is CREATE_COMPLETE and has"),
    ],
    ids=["none", "not made", "another product's"],
)
def test_a_stack_that_is_not_ours_is_said(stacks: tuple[dict[str, Any], ...], said: str) -> None:
    """Whatever it is, nothing is changed in it."""
    with pytest.raises(account.NoStackError, match=said):
        account.outputs(lambda _: _Stacks(*stacks), "shop")


class _Account:
    """What botocore would say of an account, without one."""

    region_name = "eu-central-1"

    class meta:  # noqa: N801 - named by botocore
        endpoint_url = "https://sts.eu-central-1.amazonaws.com"

    def client(self, service: str) -> _Account:
        assert service == "sts"
        return self

    def get_caller_identity(self) -> dict[str, str]:
        """Answer as STS does."""
        return {"Account": "123456789012"}


def test_a_command_on_aws_names_its_place_and_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal only yes goes on; where nobody can be asked, only --yes does."""
    terminal, keyboard = os.openpty()
    with os.fdopen(keyboard) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        for answer in (b"y\n", b"YES\n"):
            os.write(terminal, answer)
            account.confirm(_Account(), "day2", "deploy", yes=False)
        for answer in (b"n\n", b"\n", b"yesterday\n"):
            os.write(terminal, answer)
            with pytest.raises(account.NoConsentError, match="nothing was changed"):
                account.confirm(_Account(), "day2", "deploy", yes=False)
    os.close(terminal)
    asked = capsys.readouterr().err
    assert asked.startswith("account 123456789012, region eu-central-1, stack day2\ndeploy? [y/N] ")

    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        with pytest.raises(account.NoConsentError, match="give --yes to deploy"):
            account.confirm(_Account(), "day2", "deploy", yes=False)
        account.confirm(_Account(), "day2", "deploy", yes=True)
