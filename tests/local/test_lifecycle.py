"""The local AWS listens on loopback only, and leaves nothing behind, however it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import processes, workflow
from infra.local.local_aws import OUTDATED, LocalAws, interpreter
from infra.local.state import State, free_port
from tests.conftest import ROOT
from tests.equipment.local_aws import LocalFunction
from tests.equipment.waiting import PATIENCE_SECONDS, wait_for

# Those with a second local AWS, too.
pytestmark = pytest.mark.local_aws

# psutil comes with LocalStack, and is all that is wanted of it here.
SHOW_PROCESSES = """
import json, socket, sys, psutil
marked = [
    process for process in psutil.process_iter(["cmdline"])
    if sys.argv[1] in (process.info["cmdline"] or [""]) or any(
        part.startswith(sys.argv[1] + "/") for part in process.info["cmdline"] or []
    )
]
own = psutil.Process().pid
found = {process.pid: process for process in marked if process.pid != own}
for process in list(found.values()):
    found |= {child.pid: child for child in process.children(recursive=True)}
print(json.dumps({
    pid: [
        connection.laddr.ip for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    ]
    for pid, process in found.items()
}))
"""


def processes_of(aws: LocalAws) -> dict[int, list[str]]:
    """Return each process of *aws* and of its descendants, with the addresses it listens on."""
    command = [interpreter("localstack"), "-c", SHOW_PROCESSES, aws.state.folder]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    return {int(pid): addresses for pid, addresses in json.loads(shown.stdout).items()}


@pytest.fixture
def another_aws() -> Iterator[LocalAws]:
    """Start a second local AWS beside the one of the test run, with an instance in it."""
    aws = LocalAws(State.of_process("other"))
    aws.up(port=free_port())
    aws.client("rds").create_db_instance(
        DBInstanceIdentifier="orders",
        Engine="postgres",
        EngineVersion="18",
        DBInstanceClass="db.t4g.micro",
        MasterUsername="boss",
        MasterUserPassword="secret-enough",
    )
    workflow.wait_for_instance(aws, "orders")
    yield aws
    aws.clean()


def test_nothing_listens_but_on_loopback(
    local_aws: LocalAws, make_function: Callable[..., LocalFunction]
) -> None:
    """LocalStack, the functions' Runtime APIs, PostgreSQL and the TLS front."""
    make_function("def handler(event, context): pass").invoke()
    client = local_aws.client("rds")
    for number, version in enumerate((None, "18")):
        client.create_db_instance(
            DBInstanceIdentifier=f"listener-{number}",
            Engine="postgres",
            **({"EngineVersion": version} if version else {}),
            DBInstanceClass="db.t4g.micro",
            MasterUsername="boss",
            MasterUserPassword="secret-enough",
        )
        workflow.wait_for_instance(local_aws, f"listener-{number}")

    listening = [addresses for addresses in processes_of(local_aws).values() if addresses]

    assert len(listening) >= 3
    assert {address for addresses in listening for address in addresses} == {"127.0.0.1"}
    for number in range(2):
        workflow.remove_instance(local_aws, f"listener-{number}")


def test_nothing_is_left_after_down(another_aws: LocalAws) -> None:
    """No process, and no data."""
    assert len(processes_of(another_aws)) > 3

    another_aws.down()

    assert processes_of(another_aws) == {}
    assert another_aws.port is None
    assert list(another_aws.state.servers.glob("*")) == []


def test_killed_localstack_is_cleaned_up_after(another_aws: LocalAws) -> None:
    """Its PostgreSQL outlives it; up ends that and starts anew."""
    pid = int((another_aws.state.pids / "localstack").read_text())
    os.kill(pid, signal.SIGKILL)
    assert processes.wait_gone(pid, another_aws.state.folder, PATIENCE_SECONDS)
    survivors = processes_of(another_aws)
    assert survivors

    started = another_aws.up(port=free_port())

    assert started
    assert survivors.keys().isdisjoint(processes_of(another_aws))
    assert another_aws.client("rds").describe_db_instances()["DBInstances"] == []


def test_objects_and_code_lie_in_the_state_folder(
    local_aws: LocalAws, make_function: Callable[..., LocalFunction]
) -> None:
    """Two users, or two checkouts, must not meet in a folder of /tmp."""
    s3 = local_aws.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=b"x" * 2_000_000)
    where = "def handler(event, context): return [__file__, __import__('tempfile').gettempdir()]"

    code, temporary = make_function(where).invoke().response

    assert (local_aws.state.folder / "tmp" / "s3").exists()
    assert code.startswith(str(local_aws.state.folder))
    assert temporary.startswith(str(local_aws.state.folder))


def test_up_again_is_the_same_one(local_aws: LocalAws, capsys: pytest.CaptureFixture[str]) -> None:
    """Starting what is up does nothing, and says so where the code has changed since."""
    before, code = local_aws.endpoint_url, local_aws.state.code_file.read_text()

    assert local_aws.up() is False
    assert local_aws.endpoint_url == before
    assert capsys.readouterr().err == ""

    local_aws.state.code_file.write_text("as before a pull")
    try:
        assert local_aws.up() is False
    finally:
        local_aws.state.code_file.write_text(code)
    assert capsys.readouterr().err == f"{OUTDATED}\n"


def test_an_interrupted_start_leaves_nothing(tmp_path: Path) -> None:
    """Half up, the next command would take it for one that hangs."""
    aws = LocalAws(State(tmp_path))
    pid_file = aws.state.pids / "localstack"
    begun = subprocess.Popen(
        [sys.executable, "-m", "infra.local", "up"],
        cwd=ROOT,
        env=os.environ | {"DAY2_STATE": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(pid_file.exists, "the start")

    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=PATIENCE_SECONDS)

    assert (begun.returncode, said) == (130, "interrupted\n")
    assert not pid_file.exists()
    assert processes_of(aws) == {}


def test_state_of_a_killed_run_is_cleaned(local_aws: LocalAws) -> None:
    """A test run that was killed cannot clean up; the next one does."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = State(local_aws.state.folder.parent / f"t{ended.pid}")
    left.make()

    LocalAws.clean_abandoned()

    assert not left.folder.exists()
    assert local_aws.state.folder.exists()


def test_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names in /tmp can be guessed: a link that somebody put there is not followed."""
    link = tmp_path / "state"
    link.symlink_to(tmp_path)
    monkeypatch.setenv("DAY2_STATE", str(link))

    with pytest.raises(PermissionError, match="is not a folder of yours"):
        State.of_checkout()
