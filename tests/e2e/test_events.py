"""Events as AWS documents them, put on the bus word for word: which wake a run, and of what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.account import Account, sample, samples

NAME = "documented"


@pytest.fixture(scope="module", autouse=True)
def instance(account: Account) -> Iterator[None]:
    """Make the instance that the events are about."""
    account.create_at(NAME, "001")
    yield
    account.remove(NAME)


def test_update_as_aws_documents_it(account: Account) -> None:
    """LocalStack says Create of every write; AWS says Update of all but the first."""
    revision = account.next_revision(NAME)
    account.declare_unheard(NAME, revision)

    event_id = account.put(sample("parameter_updated", NAME))

    run = account.run(event_id)
    assert (run["trigger"], run["outcome"]) == ("parameter", "APPLIED")
    assert run["applied_migrations"] == [revision]
    assert account.result(NAME, request_id=event_id)["final_revision"] == revision
    assert account.revision(NAME) == revision


def test_second_delivery_is_up_to_date(account: Account) -> None:
    """The same event twice migrates once."""
    revision = account.next_revision(NAME)
    account.declare_unheard(NAME, revision)
    event = sample("instance_created", NAME)

    first, second = account.run(account.put(event)), account.run(account.put(event))

    assert (first["outcome"], first["applied_migrations"]) == ("APPLIED", [revision])
    assert (second["outcome"], second["applied_migrations"]) == ("UP_TO_DATE", [])


@pytest.mark.parametrize("name", samples("instance_*"))
def test_instance_event_wakes_a_run(account: Account, name: str) -> None:
    """Created, restored in two ways, started in two ways."""
    run = account.run(account.put(sample(name, NAME)))

    assert (run["trigger"], run["instance"], run["outcome"]) == ("instance", NAME, "UP_TO_DATE")


@pytest.mark.parametrize("name", samples("requested*"))
def test_request_on_the_bus_wakes_a_run(account: Account, name: str) -> None:
    """It may name a target that the database is past: that is refused, and tried no more."""
    event = sample(name, NAME)
    event["detail"].pop("target_revision", None)

    run = account.run(account.put(event))

    assert (run["trigger"], run["instance"]) == ("request", NAME)
    assert run["outcome"] == ("STATUS" if event["detail"]["action"] == "status" else "UP_TO_DATE")


def test_events_that_are_not_for_us_wake_nobody(account: Account) -> None:
    """Rules keep them from the function; the one that a rule cannot tell is ignored by it."""
    refused = "ignored_parameter_refused"
    others = [name for name in samples("ignored_*") if name != refused]
    assert len(others) > 5

    with account.nothing_runs(NAME):
        ids = {account.put(sample(name, NAME)) for name in others}
    run = account.run(account.put(sample(refused, NAME)))

    assert ids.isdisjoint(one["request_id"] for one in account.runs())
    assert (run["outcome"], run["reason"]) == ("IGNORED", "parameter-unset")


@pytest.mark.parametrize(
    "parameter",
    [f"/day2/{NAME}/owner", f"/day2/{NAME}/nested/owner", f"/shop/{NAME}/target-revision"],
)
def test_other_parameter_moves_nothing(account: Account, parameter: str) -> None:
    """Only the instance's own target-revision under the stack's name is one."""
    with account.nothing_runs(NAME):
        account.client("ssm").put_parameter(Name=parameter, Value="004", Type="String")
        account.changed(parameter)


def test_deleted_parameter_moves_nothing(account: Account) -> None:
    """The instance stays where it is: for events nobody has declared a target then."""
    before = account.revision(NAME)
    parameter = account.target_parameter(NAME)
    declared = account.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]

    with account.nothing_runs(NAME):
        account.client("ssm").delete_parameter(Name=parameter)
        account.changed(parameter, "Delete")
    run = account.run(account.put(sample("instance_started", NAME)))

    assert (run["outcome"], run["reason"]) == ("IGNORED", "no-declared-target")
    assert account.revision(NAME) == before
    account.declare_unheard(NAME, declared)
