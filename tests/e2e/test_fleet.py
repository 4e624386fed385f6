"""The fleet's parameter and the sweep: who is moved, and who is left where they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.account import FLEET, Account

DECLARED, FOLLOWER = "declared", "follower"


@pytest.fixture(scope="module", autouse=True)
def instances(account: Account) -> Iterator[None]:
    """Make one instance with a target of its own, and one whose target was taken back."""
    for name in (DECLARED, FOLLOWER):
        account.declare_ahead(name, "001")
        account.create(name)
    for name in (DECLARED, FOLLOWER):
        account.result(name, outcome="APPLIED", final_revision="001")
    parameter = account.target_parameter(FOLLOWER)
    account.client("ssm").delete_parameter(Name=parameter)
    account.changed(parameter, "Delete")
    yield
    account.remove(DECLARED, FOLLOWER)


@pytest.fixture
def fleet(account: Account) -> Iterator[None]:
    """Take the fleet's parameter back afterwards."""
    yield
    account.client("ssm").delete_parameters(Names=[account.target_parameter(FLEET)])


def test_sweep_repairs_what_a_lost_event_left_behind(account: Account) -> None:
    """And leaves alone a managed instance that nobody has declared a target for."""
    revision = account.next_revision(DECLARED)
    account.declare_unheard(DECLARED, revision)
    undeclared = account.revision(FOLLOWER)

    found = account.sweep()

    assert (found["outcome"], found["requested"], found["blocked"]) == ("REQUESTED", [DECLARED], [])
    result = account.result(DECLARED, outcome="APPLIED")
    assert (result["trigger"], result["applied_migrations"]) == ("request", [revision])
    assert account.revision(FOLLOWER) == undeclared
    assert account.sweep()["outcome"] == "UP_TO_DATE"


@pytest.mark.usefixtures("fleet")
def test_fleets_parameter_moves_those_that_follow_it(account: Account) -> None:
    """One event, a run for every follower, and none for who has a target of its own."""
    own = account.revision(DECLARED)
    revision = account.next_revision(FOLLOWER)

    bump = account.run(account.declare(FLEET, revision))

    assert (bump["outcome"], bump["requested"]) == ("REQUESTED", [FOLLOWER])
    result = account.result(FOLLOWER, outcome="APPLIED")
    assert (result["target_source"], result["trigger"]) == ("fleet", "request")
    assert result["applied_migrations"] == [revision]
    assert account.revision(DECLARED) == own
    # Nor does the sweep take the fleet's target for everybody's.
    assert account.sweep()["requested"] == []
