"""A database that is not there yet is waited for, and only then NOT_READY."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from core.postgres.lock import LOCK_KEY
from core.postgres.session import query
from infra.local.state import free_port
from tests.equipment.small_aws import Fault, secret_arn
from tests.equipment.world import DATABASE, INSTANCE, MASTER_SECRET, World, event

# The slice that a revision needs is 1 s, and the margin 3: this leaves two for waiting.
SHORT_SECONDS = 6.0
IMPATIENT = {"DAY2_LOCK_WAIT_SECONDS": "1"}


def close(_connection: socket.socket) -> None:
    """Close at once; the end of the block does it."""


def reset(connection: socket.socket) -> None:
    """Send a reset, as a machine does whose server has just died."""
    connection.recv(8)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def break_off(connection: socket.socket) -> None:
    """Agree to TLS, and close before it is up."""
    connection.recv(8)
    connection.sendall(b"S")
    connection.recv(4096)


@pytest.fixture(params=[close, reset, break_off])
def hanging_up(request: pytest.FixtureRequest) -> Iterator[int]:
    """Listen on a port, and hang up on everybody, as a server does that is starting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection, suppress(OSError):
                    request.param(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_name_that_does_not_resolve(world: World) -> None:
    """A name that DNS does not know yet is waited for, then NOT_READY."""
    world.declare_instance(Endpoint={"Address": "nowhere.invalid", "Port": 5432})

    assert_not_ready(world, "does not resolve yet")


def test_refused_connection(world: World) -> None:
    """A port where nobody listens is waited for, then NOT_READY."""
    world.declare_instance(Endpoint={"Address": "localhost", "Port": free_port()})

    assert_not_ready(world, "refuses connections")


def test_server_that_hangs_up(world: World, hanging_up: int) -> None:
    """A server that hangs up, whenever, is waited for, then NOT_READY."""
    world.declare_instance(Endpoint={"Address": "localhost", "Port": hanging_up})

    assert_not_ready(world, "hung up before TLS was up: the server may still be starting")


def test_server_that_shuts_down(world: World) -> None:
    """57P03 is waited for: the server starts again in time, and the same call succeeds."""
    pid = world.server.pid
    assert pid is not None
    with closing(world.server.superuser()):
        # A smart shutdown waits for this session, and answers everybody else with 57P03.
        os.kill(pid, signal.SIGTERM)
        call = world.begin()
        call.wait_for_log("(57P03)")
    world.server.stop()
    world.server.start()

    answer = call.answer()

    assert answer.outcome == "APPLIED", answer


def test_server_that_comes_in_time(world: World) -> None:
    """A server that is down is waited for within the call."""
    world.server.stop()
    call = world.begin()
    call.wait_for_log("not ready yet")
    world.server.start()

    assert call.answer().outcome == "APPLIED"


def test_pauses_grow_and_differ(world: World) -> None:
    """Tries are ever further apart, and no two runs knock in step."""
    world.declare_instance(Endpoint={"Address": "localhost", "Port": free_port()})

    logs = [world.begin(seconds=8.0) for _ in range(2)]
    pauses = [
        [float(part.split(" s:")[0]) for part in call.answer().log.split("trying again in ")[1:]]
        for call in logs
    ]

    assert all(len(found) >= 3 and found[-1] > found[0] for found in pauses), pauses
    assert pauses[0] != pauses[1]


def test_instance_that_is_being_made(world: World) -> None:
    """A direct request waits for an instance that is creating, and migrates it."""
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)
    call = world.begin()
    call.wait_for_log("being-made")
    world.declare_instance()

    assert call.answer().outcome == "APPLIED"


def test_managed_secret_that_is_being_made(world: World) -> None:
    """RDS's own secret is waited for while it is creating."""
    tags = [{"Key": "day2", "Value": "enabled"}]
    secret = {"SecretArn": secret_arn(MASTER_SECRET), "SecretStatus": "creating"}
    world.declare_instance(TagList=tags, MasterUserSecret=secret)
    call = world.begin()
    call.wait_for_log("secret-creating")
    world.declare_instance(TagList=tags, MasterUserSecret=secret | {"SecretStatus": "active"})

    assert call.answer().outcome == "APPLIED"


def test_secret_that_comes_late(world: World) -> None:
    """A young instance's secret may come later; an old instance's is missing at once."""
    secret = world.aws.secrets.pop(MASTER_SECRET)
    world.declare_instance(InstanceCreateTime=datetime.now(UTC).isoformat())
    call = world.begin()
    call.wait_for_log("it may still appear")
    world.aws.secrets[MASTER_SECRET] = secret

    assert call.answer().outcome == "APPLIED"

    world.declare_instance()
    world.aws.secrets.pop(MASTER_SECRET)
    assert world.call().outcome == "NOT_FOUND"


def test_call_that_still_waits_ends_with_its_test(world: World) -> None:
    """Where a test fails in its middle, the next one finds nobody at its database."""
    world.aws.secrets.pop(MASTER_SECRET)
    world.declare_instance(InstanceCreateTime=datetime.now(UTC).isoformat())
    call = world.begin()
    call.wait_for_log("it may still appear")

    world.reset()

    assert call.is_over


def test_event_is_put_off_and_comes_again_as_it_was(world: World) -> None:
    """It answers soon, waits in the queue whole, and then runs by its own trigger and id."""
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)
    created = event("instance_created")

    answer = world.call(created, seconds=SHORT_SECONDS)

    assert (answer.outcome, answer.error) == ("INCOMPLETE", None)
    assert answer.body["reason"] == "put-off"
    assert "it is tried again in 60 s, and until " in answer.body["message"]
    assert (answer.metric("RunsPutOff"), answer.metric("MigrationFailures")) == (1, None)
    (sent,) = world.aws.put_off
    assert (sent["DelaySeconds"], json.loads(sent["MessageBody"])) == (60, created)
    assert world.aws.events == []

    waited = world.come_again()
    again = world.call(waited, seconds=SHORT_SECONDS)
    until = re.compile(r"until (\S+)")
    assert (again.outcome, again.error) == ("INCOMPLETE", None)
    assert "tried again in 120 s" in again.body["message"]
    assert until.findall(again.body["message"]) == until.findall(answer.body["message"])
    assert again.line("run finished")["waiting_since"]

    world.declare_instance()
    done = world.call(world.come_again())
    assert (done.outcome, done.error) == ("APPLIED", None)
    line = done.line("run finished")
    assert (line["trigger"], line["request_id"]) == ("instance", created["id"])
    ((by, ident),) = world.query("SELECT DISTINCT trigger, request_id FROM day2.history")
    assert (by, ident) == ("instance", created["id"])
    assert world.aws.put_off == []


def test_locked_database_is_put_off(world: World) -> None:
    """A bump beside a long run is not lost: it is tried again when that one has ended."""
    world.declare("head")
    with lock_held(world):
        answer = world.call(event("parameter_updated"), variables=IMPATIENT)
        assert (answer.outcome, answer.error) == ("INCOMPLETE", None)
        assert "another run" in answer.body["message"]

    assert world.call(world.come_again()).outcome == "APPLIED"


def test_person_is_told_of_a_lock(world: World) -> None:
    """Nothing is put off behind the back of who reads the answer, and nothing has failed yet."""
    with lock_held(world):
        answer = world.call(variables=IMPATIENT)

    assert (answer.outcome, answer.error) == ("LOCK_BUSY", None)
    assert (answer.metric("RunsPutOff"), answer.metric("MigrationFailures")) == (1, None)
    assert world.aws.put_off == []


@pytest.mark.parametrize(
    ("status", "hours"), [("available", 0.25), ("rebooting", 2.0), ("configuring-log-exports", 2.0)]
)
def test_server_that_does_not_answer_is_put_off(world: World, status: str, hours: float) -> None:
    """For as long as RDS may be at it; else only so long that a person hears of it soon."""
    world.declare_instance(
        DBInstanceStatus=status, Endpoint={"Address": "localhost", "Port": free_port()}
    )

    assert world.call(event("instance_started"), seconds=SHORT_SECONDS).outcome == "INCOMPLETE"

    (sent,) = world.aws.put_off
    until = datetime.fromisoformat(sent["MessageAttributes"]["until"]["StringValue"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(minutes=1)


def test_deadline_ends_the_waiting(world: World) -> None:
    """Behind its deadline, an instance that is still being made is a failure that is raised."""
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)
    world.call(event("instance_created"), seconds=SHORT_SECONDS)
    waited = world.come_again()
    attributes = waited["Records"][0]["messageAttributes"]
    attributes["until"]["stringValue"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()

    answer = world.call(waited, seconds=SHORT_SECONDS)

    assert answer.error is not None
    assert answer.outcome == "NOT_READY"
    assert (answer.metric("RunsPutOff"), answer.metric("MigrationFailures")) == (None, 1)
    assert world.aws.put_off == []


def test_failure_after_the_waiting_is_raised(world: World) -> None:
    """The queue keeps the event then, and hands it to the failures in the end."""
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)
    world.call(event("instance_created"), seconds=SHORT_SECONDS)
    world.declare_instance()
    world.declare("no_such_revision")

    answer = world.call(world.come_again())

    assert answer.error is not None
    assert answer.outcome == "REJECTED"
    assert [one["outcome"] for one in world.aws.of_type("Migration Failed")] == ["REJECTED"]


def test_queue_that_refuses_leaves_the_event_to_lambda(world: World) -> None:
    """What cannot be put off is raised as what it is, so that it is tried again and kept."""
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)
    world.aws.faults["sqs:SendMessage"] = Fault("AccessDenied")

    answer = world.call(event("instance_created"), seconds=SHORT_SECONDS)

    assert answer.error is not None
    assert answer.outcome == "NOT_READY"
    assert "orders is creating" in answer.error.text
    assert "could not be put off: sqs:SendMessage is denied" in answer.log
    (told,) = world.aws.of_type("Migration Failed")
    assert (told["instance"], told["outcome"]) == (INSTANCE, "NOT_READY")


@pytest.mark.parametrize("action", ["status", "plan", "check"])
def test_whoever_looks_is_answered_at_once(world: World, action: str) -> None:
    """An instance that is being made, a server that refuses, a secret to come: no wait."""
    young = {"InstanceCreateTime": datetime.now(UTC).isoformat()}
    for changes in (
        {"DBInstanceStatus": "creating", "Endpoint": None},
        {"Endpoint": {"Address": "localhost", "Port": free_port()}},
        young | {"TagList": [{"Key": "day2:secret", "Value": "to-come"}]},
    ):
        world.declare_instance(**changes)
        answer = world.call(world.request(action, target=None))

        assert (answer.outcome, answer.error) == ("NOT_READY", None)
        assert "trying again" not in answer.log, changes


def test_whoever_looks_is_answered_soon_by_a_busy_aws(world: World) -> None:
    """It is asked again for some seconds, and not for as long as the function may run."""
    world.aws.faults["rds:DescribeDBInstances"] = Fault("Throttling")
    begun = time.monotonic()

    answer = world.call(world.request("status", target=None), seconds=300)

    # Of a busy machine, too; it would be all of the 300 otherwise.
    assert time.monotonic() - begun < 60
    assert answer.outcome == "NOT_READY"


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        ({"secret_name": "orders-mistyped"}, "NOT_FOUND"),
        ({"instance": INSTANCE, "secret_name": "orders-mistyped"}, "NOT_FOUND"),
        ({"instance": "ordesr"}, "NOT_FOUND"),
        ({"instance": INSTANCE, "action": "plan", "secret_name": "orders-mistyped"}, "NOT_FOUND"),
    ],
)  # fmt: skip
def test_mistyped_name_is_told_at_once(
    world: World, request_: dict[str, str], outcome: str
) -> None:
    """However young the instance is: a name that a person gave does not come true by waiting."""
    world.declare_instance(InstanceCreateTime=datetime.now(UTC).isoformat())

    answer = world.call(request_)

    assert (answer.outcome, answer.error) == (outcome, None)
    assert "trying again" not in answer.log


@pytest.mark.parametrize(
    ("action", "code", "outcome"),
    [
        ("rds:DescribeDBInstances", "AccessDenied", "ACCESS_DENIED"),
        ("rds:DescribeBlueGreenDeployments", "AccessDenied", "ACCESS_DENIED"),
        ("secretsmanager:GetSecretValue", "DecryptionFailure", "ACCESS_DENIED"),
        ("secretsmanager:GetSecretValue", "InternalServiceError", "NOT_READY"),
        ("ssm:GetParameters", "AccessDeniedException", "ACCESS_DENIED"),
        ("secretsmanager:CreateSecret", "AccessDeniedException", "FAILED"),
    ],
)
def test_aws_that_refuses(world: World, action: str, code: str, outcome: str) -> None:
    """What AWS answers is an outcome of the taxonomy that names the call; nothing is half done."""
    world.aws.faults[action] = Fault(code)

    answer = world.call(world.request(target=None), seconds=SHORT_SECONDS)

    assert answer.error is None
    assert answer.outcome == outcome
    assert action in answer.body["message"]
    assert world.history() == []
    world.wait_for_lock(held=False)


@contextmanager
def lock_held(world: World) -> Iterator[None]:
    """Hold the database's lock, as another run does."""
    with closing(world.server.superuser(DATABASE)) as session:
        query(session, f"SELECT pg_advisory_lock({LOCK_KEY})")
        yield


def assert_not_ready(world: World, text: str) -> None:
    """Call, and check that it waited, ended within its time, and said *text*."""
    answer = world.call(seconds=SHORT_SECONDS)

    assert answer.outcome == "NOT_READY", answer
    assert answer.response["statusCode"] == 503
    assert text in answer.body["message"]
    assert "trying again" in answer.log
