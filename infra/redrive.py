"""
Send failed events again, once their cause is mended.

    python -m infra.redrive [--stack day2] [--list] [--yes]

They wait for two weeks in the stack's two queues: whole, with their errors. It talks to whichever
AWS the shell's credentials are for, names it, and asks before it sends; ``make redrive`` does the
same on the local AWS, whatever credentials the shell has.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra import account

# Long enough to read a full queue, so that no message is met twice.
INVISIBLE_SECONDS = 120


@dataclass(frozen=True)
class Failed:
    """An event that waits in a queue: its own, as the function gets it, and what went wrong."""

    event: dict[str, Any]
    error: str
    queue_url: str
    receipt: str

    @property
    def line(self) -> str:
        """Say what it is and why it failed, in one line."""
        detail = self.event.get("detail")
        detail = detail if isinstance(detail, dict) else {}
        about = (
            detail.get("SourceIdentifier")
            or detail.get("name")
            or detail.get("instance")
            or self.event.get("instance")
            or ""
        )
        kind = self.event.get("detail-type", "direct request")
        return f"{kind} {about} ({self.event.get('id', 'no id')}): {self.error}"

    @property
    def is_of_the_schedule(self) -> bool:
        """Whether it is the bare tick of a schedule: the next sweep does better."""
        return self.event.get("detail-type") == "Scheduled Event"


class Redrive:
    """The queues and the function of one stack."""

    def __init__(self, stack: str, client: Callable[[str], Any]) -> None:
        found = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        outputs = {item["OutputKey"]: item["OutputValue"] for item in found["Outputs"]}
        self._urls = (outputs["FailuresQueueUrl"], outputs["UndeliveredQueueUrl"])
        self._function = outputs["FunctionName"]
        self._sqs = client("sqs")
        self._lambda = client("lambda")

    def waiting(self) -> list[Failed]:
        """Return all that waits; nobody else sees it until it is released, or for two minutes."""
        return [failed for url in self._urls for failed in self._read(url)]

    def release(self, failed: Failed) -> None:
        """Leave *failed* where it is, for others to see."""
        self._sqs.change_message_visibility(
            QueueUrl=failed.queue_url, ReceiptHandle=failed.receipt, VisibilityTimeout=0
        )

    def send(self, failed: Failed) -> None:
        """Hand the event to the function as it came, and then take it from its queue."""
        if not failed.is_of_the_schedule:
            self._lambda.invoke(
                FunctionName=self._function,
                InvocationType="Event",
                Payload=json.dumps(failed.event).encode(),
            )
        self._sqs.delete_message(QueueUrl=failed.queue_url, ReceiptHandle=failed.receipt)

    def _read(self, url: str) -> Iterator[Failed]:
        while True:
            found = self._sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=INVISIBLE_SECONDS,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
            )
            if not found.get("Messages"):
                return
            for message in found["Messages"]:
                yield _failed(message, url)


def _failed(message: dict[str, Any], url: str) -> Failed:
    """Read a message: Lambda wraps the event in a record, EventBridge sends it bare."""
    body = json.loads(message["Body"])
    if "requestPayload" in body:
        answer = body.get("responsePayload") or {}
        error = answer.get("errorMessage") or body["requestContext"]["condition"]
        return Failed(body["requestPayload"], error, url, message["ReceiptHandle"])
    attributes = message.get("MessageAttributes", {})
    error = attributes.get("ERROR_MESSAGE", {}).get("StringValue", "undelivered")
    return Failed(body, error, url, message["ReceiptHandle"])


def run(redrive: Redrive, *, send: bool) -> None:
    """List what waits, and *send* it again."""
    waiting = redrive.waiting()
    for failed in waiting:
        print(failed.line)
        if send:
            redrive.send(failed)
        else:
            redrive.release(failed)
    print(f"{len(waiting)} event(s) {'sent again' if send else 'wait'}")


def main(words: list[str]) -> int:
    """List what waits, or send it again after a yes."""
    parser = argparse.ArgumentParser(prog="python -m infra.redrive", description=__doc__)
    parser.add_argument("--stack", default="day2")
    parser.add_argument("--list", action="store_true", help="change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask, as in CI")
    arguments = parser.parse_args(words)
    session = boto3.session.Session()
    try:
        if not arguments.list:
            what = "send again what waits there"
            account.confirm(session, arguments.stack, what, yes=arguments.yes)
        run(Redrive(arguments.stack, session.client), send=not arguments.list)
    except (account.NoConsentError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
