"""An instance that is available and cannot be reached: the answer names what is in the way."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from core.actions.entry import entered
from core.actions.run import Cloud, Run
from core.budget import Budget
from core.errors import AwaitsPerson, Unreachable
from core.model import ManagedDatabase, Request, Secret, Trigger
from core.revisions.runner import Revisions
from core.settings import Settings
from infra.local.state import free_port
from tests.equipment.fakes import FakeRegister


@dataclass(frozen=True)
class Elsewhere(FakeRegister):
    """An account with one available instance, at a port of this machine."""

    port: int
    status: str = "available"

    def databases(self) -> list[ManagedDatabase]:
        """Return the instance."""
        one = ManagedDatabase(
            "orders",
            "arn",
            "db-ORDERS",
            "postgres",
            self.status,
            host="127.0.0.1",
            port=self.port,
            vpc_id="vpc-1",
            security_groups=("sg-orders",),
            tags={"day2": "enabled", "day2:secret": "orders/master"},
        )
        return [one]

    def in_deployments(self) -> frozenset[str]:
        """Return none: there is no deployment."""
        return frozenset()

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret:
        """Return its master secret."""
        assert stage
        return Secret(name, name, '{"username": "postgres", "password": "none is sent"}')


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that answers nothing, as behind a security group: its backlog is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def run_on(account: Elsewhere, settings: Settings) -> Run:
    """Return a run that a bumped parameter asks for."""
    return Run(
        request=Request(Trigger.PARAMETER, instance="orders"),
        cloud=cast("Cloud", account),
        revisions=cast("Revisions", cast("Any", None)),
        settings=settings,
        budget=Budget.of(1.5),
        request_id="1",
    )


@pytest.mark.parametrize(
    ("settings", "ours"),
    [
        (Settings(vpc_id="vpc-1", security_group_ids="sg-day2"), "sg-day2"),
        (Settings(), "the function's"),
    ],
    ids=["in the VPC", "outside of any"],
)
def test_the_security_groups_are_named(settings: Settings, ours: str, silent_port: int) -> None:
    """Whose group has to admit whose, and on which port: NOT_READY, so that it is tried again."""
    run = run_on(Elsewhere(silent_port), settings)

    with pytest.raises(Unreachable) as caught, entered(run):
        pytest.fail("entered what does not answer")

    assert caught.value.outcome == "NOT_READY"
    assert caught.value.outcome.retryable
    remedy = f"let its security group sg-orders admit {ours} on port {silent_port}"
    assert str(caught.value).endswith(f"orders is available, so {remedy}")


def test_a_full_storage_is_named() -> None:
    """Then no group is in the way, and to try again at once would help nobody."""
    run = run_on(Elsewhere(free_port(), "storage-full"), Settings())

    with pytest.raises(AwaitsPerson) as caught, entered(run):
        pytest.fail("entered what does not answer")

    assert str(caught.value).endswith("orders is storage-full: give it more storage")
