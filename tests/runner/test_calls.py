"""How often AWS is asked, as ``infra/OPERATIONS.md`` tells it: a whole account shares its rates."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.equipment import documents
from tests.equipment.world import World, event

A_PAGE, BATCH = "1 a page", "1 for 10 runs"


def told() -> list[Counter[str]]:
    """Return what the table says of each column: up to date, and so on."""
    rows = documents.rows("infra/OPERATIONS.md", "call")
    columns: list[Counter[str]] = [Counter() for _ in rows[0][1:-1]]
    for name, *cells, _ in rows:
        for column, cell in zip(columns, cells, strict=True):
            column[name.strip("`")] = 1 if cell in (A_PAGE, BATCH) else int(cell)
    return [+column for column in columns]


def asked(world: World, asks: Any) -> Counter[str]:
    """Carry out *asks*, and return how often each action of AWS was called."""
    world.aws.calls.clear()
    answer = world.call(asks)
    assert answer.error is None, answer
    return Counter(call.action for call in world.aws.calls)


def test_a_run_asks_as_often_as_the_table_says(world: World) -> None:
    """Whoever adds a call to a run sees here what it costs a fleet."""
    up_to_date, one_revision, with_logins, status, fleet = told()

    world.declare("003")
    assert asked(world, event("parameter_updated")) == with_logins
    world.declare("004")
    assert asked(world, event("parameter_updated")) == one_revision
    # The first time its state is news.
    asked(world, event("requested"))
    assert asked(world, event("requested")) == up_to_date
    assert asked(world, world.request("status", target=None)) == status
    world.aws.parameters.clear()
    world.declare("head", instance="_fleet")
    world.declare_instance(DbiResourceId="db-ANOTHER")
    assert asked(world, event("sweep_scheduled")) == fleet
    assert asked(world, event("fleet_parameter_updated")) == fleet
