"""A failed event is kept whole, and does its work once its cause is mended."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from infra import redrive
from tests.operating.story import TARGET, Story, samples, wait_for


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
    listed = capsys.readouterr().out
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
    tick: dict[str, Any] = {"id": "1", "detail-type": "Scheduled Event", "source": "aws.events"}
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

    assert capsys.readouterr().out.splitlines()[-1] == "2 event(s) sent again"
    ignored = samples()["ignored_instance_deleted"]["id"]
    wait_for(
        lambda: any(line.get("request_id") == ignored for line in story.log()),
        "the event that was not delivered",
    )
