"""A team's migrations as a layer on the deployed function: a bump applies what a new one brings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local import stack
from tests.e2e.account import Account
from tests.equipment.histories import folder_of, table
from tests.equipment.waiting import wait_for
from tests.operating.conftest import put_to_sleep

STACK, NAME = "acme", "acme-orders"
FIRST = {"a1": table("a1")}
SECOND = FIRST | {"a2": table("a2")}


@pytest.fixture(scope="module", autouse=True)
def own_stack(account: Account) -> Iterator[None]:
    """Leave nothing at work of a second stack, and no instance."""
    yield
    account.remove(NAME)
    put_to_sleep(account.aws, STACK)


def declare(account: Account, revision: str) -> None:
    """Write the target that the second stack goes by."""
    account.client("ssm").put_parameter(
        Name=f"/{STACK}/{NAME}/target-revision", Value=revision, Type="String", Overwrite=True
    )


def arrived(account: Account, revision: str) -> dict[str, Any]:
    """Return the observed state of the second stack, once it is at *revision*."""
    ssm = account.client("ssm")

    def state() -> dict[str, Any] | None:
        found = ssm.get_parameters(Names=[f"/{STACK}/{NAME}/observed-state"])["Parameters"]
        told = json.loads(found[0]["Value"]) if found else {}
        return told if told.get("revision") == revision else None

    return dict(wait_for(state, f"{NAME} at {revision}"))


def function(account: Account) -> dict[str, Any]:
    """Return what Lambda says of the second stack's function."""
    name = f"{STACK}-dispatcher"
    return dict(account.client("lambda").get_function_configuration(FunctionName=name))


def test_a_bump_applies_what_a_new_layer_brings(account: Account, tmp_path: Path) -> None:
    """The function's code stays as it is; the build is named by both."""
    stack.deploy(account.aws, stack=STACK, migrations=folder_of(tmp_path / "acme", FIRST))
    declare(account, "a1")
    account.create(NAME, tagged=False, Tags=[{"Key": STACK, "Value": "enabled"}])
    before, one = arrived(account, "a1"), function(account)

    stack.deploy(account.aws, stack=STACK, migrations=folder_of(tmp_path / "acme", SECOND))
    two = function(account)
    declare(account, "a2")
    after = arrived(account, "a2")
    status = account.invoke(f"{STACK}-dispatcher", instance=NAME, action="status").response["body"]

    assert one["CodeSha256"] == two["CodeSha256"]
    layers, other_layers = ([one["Arn"] for one in it["Layers"]] for it in (one, two))
    assert layers[0] == other_layers[0]
    assert layers[1] != other_layers[1]
    assert [row["revision"] for row in status["history"]] == ["a1", "a2"]
    assert (status["head_revision"], status["build"]) == ("a2", after["build"])
    assert before["build"].split("+")[0] == after["build"].split("+")[0]
    assert before["build"] != after["build"]
