"""A failed event is kept whole, and does its work once its cause is mended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra import redrive
from tests.equipment.waiting import wait_for
from tests.operating.story import TARGET, Story, samples


@pytest.fixture
def environment(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the shell at the local AWS."""
    for name, value in story.aws.environment().items():
        monkeypatch.setenv(name, value)


def test_a_failed_event_is_kept_whole_with_its_error(story: Story) -> None:
    """After three attempts, as EventBridge delivered it."""
    (event,) = (
        one
        for one in story.heard("Parameter Store Change")
        if one["detail"].get("name") == TARGET and one["id"] == story.failed["requestPayload"]["id"]
    )

    assert story.failed["requestPayload"] == event
    assert story.failed["requestContext"]["condition"] == "RetriesExhausted"
    assert story.failed["requestContext"]["approximateInvokeCount"] == 3
    assert "refused the password of postgres" in story.failed["responsePayload"]["errorMessage"]


@pytest.mark.usefixtures("environment")
def test_redrive_sends_what_waits_and_the_work_is_done(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    """Listed first, which changes nothing; sent once the secret is right again."""
    assert redrive.main(["--list"]) == 0
    said = capsys.readouterr()
    listed = said.out
    assert said.err.startswith("account 000000000000, region us-east-1, stack day2 at http://")
    ident = story.failed["requestPayload"]["id"]
    assert listed.splitlines()[0].startswith(f"Parameter Store Change {TARGET} ({ident}): ")
    assert listed.splitlines()[-1] == "1 event(s) wait"
    assert story.next_failed() == story.failed

    story.swap_password(story.right_password)
    assert redrive.main([]) == 1
    refused = capsys.readouterr()
    assert refused.out == ""
    assert "account 000000000000, region us-east-1, stack day2 at http://127.0.0.1" in refused.err
    assert "give --yes to send again what waits there" in refused.err
    assert story.next_failed() == story.failed

    assert redrive.main(["--yes"]) == 0

    assert capsys.readouterr().out.splitlines()[-1] == "1 event(s) sent again"
    wait_for(lambda: story.observed()["revision"] == "003", "orders at 003")
    assert story.observed()["request_id"] == ident
    assert redrive.main(["--yes"]) == 0
    assert capsys.readouterr().out == "0 event(s) sent again\n"


@pytest.mark.usefixtures("environment")
def test_an_undelivered_event_is_sent_too_and_a_schedules_tick_is_dropped(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    """EventBridge's queue holds the event bare, with the reason in an attribute."""
    sqs, url = story.aws.client("sqs"), story.outputs["UndeliveredQueueUrl"]
    tick = samples()["sweep_scheduled"]
    for event in (samples()["ignored_instance_deleted"], tick):
        sqs.send_message(
            QueueUrl=url,
            MessageBody=json.dumps(event),
            MessageAttributes={
                "ERROR_MESSAGE": {"DataType": "String", "StringValue": "no permission"}
            },
        )

    waiting = redrive.Redrive("day2", boto3.session.Session().client).waiting()
    assert [one.is_of_the_schedule for one in waiting] == [False, True]
    assert [one.error for one in waiting] == ["no permission"] * 2
    for failed in waiting:
        redrive.Redrive("day2", boto3.session.Session().client).release(failed)
    assert redrive.main(["--yes"]) == 0

    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "1 event(s) sent again, 1 of a schedule dropped: the next sweep does better"
    ignored = samples()["ignored_instance_deleted"]["id"]
    wait_for(
        lambda: any(line.get("request_id") == ignored for line in story.log()),
        "the event that was not delivered",
    )


ROLLBACK = samples()["direct_rollback"]
EVENT = samples()["ignored_instance_deleted"] | {"id": "11111111-1111-4111-8111-111111111111"}


def record(payload: Any, **parts: Any) -> str:
    """Return what Lambda puts into the queue of failures."""
    context = {"condition": "RetriesExhausted", "approximateInvokeCount": 3}
    return json.dumps({"requestContext": context, "requestPayload": payload} | parts)


# Each with why it stays where it is.
STAY = {
    "hello \x9b2J \u202e": "is not JSON",
    "[" * 100_000: "is not JSON",
    "[]": "is not a JSON object",
    "null": "is not a JSON object",
    record([1]): "has an event that is not a JSON object",
    record("text"): "has an event that is not a JSON object",
    record(ROLLBACK): "did not come over EventBridge",
    record(ROLLBACK, requestContext=None): "did not come over EventBridge",
    json.dumps(ROLLBACK): "did not come over EventBridge",
    record({"instance": "orders\u202e\u009b2J" + "x" * 5000}): "did not come over EventBridge",
    record(ROLLBACK | {"source": "day2"}): "did not come over EventBridge",
    record(ROLLBACK | {"source": "day2", "detail-type": "Migration Requested"}): "id is not one",
    record(EVENT | {"id": "\ud800"}): "id is not one",
    record(EVENT | {"id": None}): "id is not one",
    record(EVENT | {"source": {"prefix": ""}}): "source is not text",
    record(EVENT | {"detail-type": ""}): "detail-type is not text",
    record(EVENT | {"detail": "text"}): "detail is not a JSON object",
    record(
        EVENT | {"detail": None}, responsePayload="Task timed out"
    ): "detail is not a JSON object",
}
GO = [
    record(EVENT),
    record(EVENT, responsePayload="Task timed out\x1b[31m"),
    record(EVENT, responsePayload=[1], requestContext={"condition": 7}),
    json.dumps(EVENT),
]


@pytest.mark.usefixtures("environment")
def test_what_was_planted_is_listed_and_stays_and_stops_nothing(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with the reason, no character of it raw; the events beside it are sent."""
    sqs, url = story.aws.client("sqs"), story.outputs["FailuresQueueUrl"]
    for body in (*STAY, *GO):
        sqs.send_message(QueueUrl=url, MessageBody=body)

    assert redrive.main(["--yes"]) == 1

    said = capsys.readouterr().out
    summary = f"{len(GO)} event(s) sent again, {len(STAY)} left in the queue"
    assert said.splitlines()[-1] == summary
    assert all(line.isprintable() and len(line) < 1000 for line in said.splitlines())
    for reason in STAY.values():
        assert reason in said
    assert said.count("did not come over EventBridge") == 5
    assert redrive.main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{len(STAY)} event(s) wait"
    sqs.purge_queue(QueueUrl=url)
    assert redrive.main(["--list"]) == 0
    assert capsys.readouterr().out == "0 event(s) wait\n"


@dataclass
class Refusing:
    """Lambda, as it refuses the first event that it gets."""

    real: Any
    refused: int = 0

    def invoke(self, **request: Any) -> Any:
        """Refuse, or pass it on."""
        if self.refused:
            return self.real.invoke(**request)
        self.refused = 1
        error = {"Code": "RequestEntityTooLargeException", "Message": "too large \x1b[2J"}
        raise ClientError({"Error": error}, "Invoke")


def test_an_event_that_lambda_refuses_stays_and_the_next_is_sent(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what Lambda said; the next redrive tries it again."""
    sqs, url = story.aws.client("sqs"), story.outputs["FailuresQueueUrl"]
    function = Refusing(story.aws.client("lambda"))
    for body in (record(EVENT), json.dumps(EVENT)):
        sqs.send_message(QueueUrl=url, MessageBody=body)

    def client(service: str) -> Any:
        return function if service == "lambda" else story.aws.client(service)

    assert redrive.run(redrive.Redrive("day2", client), send=True) == 1

    said = capsys.readouterr().out
    assert "not sent: An error occurred (RequestEntityTooLargeException)" in said
    assert "\\x1b[2J" in said
    assert said.splitlines()[-1] == "1 event(s) sent again, 1 left in the queue"
    assert redrive.run(redrive.Redrive("day2", client), send=True) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 event(s) sent again"
