"""A database that is not there yet is waited for, and only then NOT_READY."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import pytest

from infra.local.state import free_port
from tests.equipment.small_aws import Fault, secret_arn
from tests.equipment.world import INSTANCE, MASTER_SECRET, World, event

# The slice that a revision needs is 1 s, and the margin 3: this leaves two for waiting.
SHORT_SECONDS = 6.0


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


def test_event_asks_again_on_the_bus(world: World) -> None:
    """An event's run that cannot wait longer asks again, with the deadline, and does not fail."""
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)

    answer = world.call(event("instance_created"), seconds=SHORT_SECONDS)

    assert (answer.outcome, answer.error) == ("INCOMPLETE", None)
    (asked,) = world.aws.of_type("Migration Requested")
    until = datetime.fromisoformat(asked["wait_until"])
    assert timedelta(hours=1.9) < until - datetime.now(UTC) < timedelta(hours=2.1)
    assert asked["instance"] == INSTANCE


def test_deadline_ends_the_waiting(world: World) -> None:
    """Behind its deadline, an instance that is still being made is a failure that is raised."""
    world.declare_instance(DBInstanceStatus="creating", Endpoint=None)
    asked = event("requested_until")
    asked["detail"]["wait_until"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()

    answer = world.call(asked, seconds=SHORT_SECONDS)

    assert answer.error is not None
    assert answer.outcome == "NOT_READY"
    assert world.aws.of_type("Migration Requested") == []


@pytest.mark.parametrize(
    ("action", "code", "outcome"),
    [
        ("rds:DescribeDBInstances", "AccessDenied", "ACCESS_DENIED"),
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
    assert world.lock_holders() == []


def assert_not_ready(world: World, text: str) -> None:
    """Call, and check that it waited, ended within its time, and said *text*."""
    begun = time.monotonic()
    answer = world.call(seconds=SHORT_SECONDS)

    assert time.monotonic() - begun < SHORT_SECONDS
    assert answer.outcome == "NOT_READY", answer
    assert answer.response["statusCode"] == 503
    assert text in answer.body["message"]
    assert "trying again" in answer.log
