"""What cannot go on yet waits in the stack's own queue, and comes again by AWS itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from core.postgres.lock import LOCK_KEY
from core.postgres.session import query
from infra import redrive
from tests.e2e.account import Account
from tests.equipment.waiting import wait_for

NAME = "busy"
FUNCTION = "day2-dispatcher"
# So short that a test can wait for it; by default they are a minute and two hours.
IMPATIENT = {"DAY2_LOCK_WAIT_SECONDS": "1", "DAY2_READY_DEADLINE_SECONDS": "8"}


@contextmanager
def configured(account: Account, variables: dict[str, str]) -> Iterator[None]:
    """Set *variables* of the function, and set them back."""
    client = account.client("lambda")
    before = client.get_function_configuration(FunctionName=FUNCTION)["Environment"]["Variables"]
    for values in (before | variables, before):
        client.update_function_configuration(
            FunctionName=FUNCTION, Environment={"Variables": values}
        )
        client.get_waiter("function_updated_v2").wait(
            FunctionName=FUNCTION, WaiterConfig={"Delay": 1}
        )
        account.wait_until_awake()
        if values is not before:
            yield


@pytest.fixture(scope="module", autouse=True)
def impatient(account: Account) -> Iterator[None]:
    """Make the instance, and a function that does not wait for long."""
    account.create_at(NAME, "001")
    with configured(account, IMPATIENT):
        yield
    account.remove(NAME)


@contextmanager
def lock_held(account: Account) -> Iterator[None]:
    """Hold the lock of the instance's database, as another run does."""
    with closing(account.session(NAME)) as session:
        query(session, f"SELECT pg_advisory_lock({LOCK_KEY})")
        yield


def test_locked_run_comes_again_by_itself(account: Account) -> None:
    """The very event: with its id, its trigger, and how long it has waited."""
    with lock_held(account):
        event_id = account.declare(NAME, "002")
        put_off = account.run(event_id)
        assert (put_off["outcome"], put_off["reason"]) == ("INCOMPLETE", "put-off")

    account.result(NAME, outcome="APPLIED", final_revision="002", request_id=event_id)

    run = next(
        one
        for one in account.runs()
        if (one["request_id"], one["outcome"]) == (event_id, "APPLIED")
    )
    assert (run["trigger"], run["applied_migrations"]) == ("parameter", ["002"])
    assert run["waiting_since"]
    assert account.failures() == 0


def test_what_fails_after_it_waited_ends_with_the_failures(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, from where redrive sends it again."""
    sqs = account.client("sqs")
    url = sqs.get_queue_url(QueueName="day2-waiting")["QueueUrl"]
    names = ["RedrivePolicy", "VisibilityTimeout"]
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    once = json.loads(before["RedrivePolicy"]) | {"maxReceiveCount": 1}
    quick = {"RedrivePolicy": json.dumps(once), "VisibilityTimeout": "2"}
    sqs.set_queue_attributes(QueueUrl=url, Attributes=quick)
    try:
        with lock_held(account):
            event_id = account.declare(NAME, "003")
            result = account.result(NAME, outcome="LOCK_BUSY", request_id=event_id)
            wait_for(lambda: account.failures() == 1, "the event among the failures")
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=before)
    assert result["trigger"] == "parameter"

    assert redrive.run(redrive.Redrive("day2", account.client), send=True) == 0
    told = f"({event_id}): failed after it was put off: the log of its id says why"
    assert told in capsys.readouterr().out

    account.result(NAME, outcome="APPLIED", final_revision="003", request_id=event_id)
    assert account.failures() == 0
