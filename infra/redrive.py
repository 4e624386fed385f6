"""
Send failed events again, once their cause is mended.

    python -m infra.redrive [--stack day2] [--list] [--yes]

They wait for two weeks in the stack's two queues: whole, with their errors. It talks to whichever
AWS the shell's credentials are for, names it, and asks before it sends; ``make redrive`` does the
same on the local AWS, whatever credentials the shell has.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra import account, commands

# Long enough to read a full queue, so that no message is met twice.
INVISIBLE_SECONDS = 120


# Of what others wrote, a line holds no more.
SHOWN_CHARACTERS = 300

# What EventBridge gives every event.
_EVENT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Failed:
    """
    An event that waits in a queue: its own, as the function gets it, and what went wrong.

    Whoever may send to the queue chooses all of it, so *held* says why one is never sent again.
    """

    event: Any
    error: str
    queue_url: str
    receipt: str
    held: str | None = None

    @property
    def line(self) -> str:
        """Say what it is and why it failed, in one line."""
        if not isinstance(self.event, dict):
            return shown(f"{self.held}: {self.event}")
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
        line = f"{shown(f'{kind} {about}')} ({shown(self.event.get('id', 'no id'))})"
        return f"{line}: {shown(f'{self.held}: {self.error}' if self.held else self.error)}"

    @property
    def is_of_the_schedule(self) -> bool:
        """Whether it is the bare tick of a schedule: the next sweep does better."""
        source = self.event.get("source") if isinstance(self.event, dict) else None
        return isinstance(source, str) and (
            source.endswith(".schedule") or self.event.get("detail-type") == "Scheduled Event"
        )


def shown(text: object) -> str:
    """Return *text* for a terminal: what could steer one is escaped, and the length has an end."""
    whole = str(text)
    escaped = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in whole[:SHOWN_CHARACTERS]
    )
    return escaped + ("…" if len(whole) > SHOWN_CHARACTERS else "")


class Redrive:
    """The queues and the function of one stack."""

    def __init__(self, stack: str, client: Callable[[str], Any]) -> None:
        outputs = account.outputs(client, stack)
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
    """Read a message: Lambda wraps the event in a record, EventBridge and SQS send it bare."""
    receipt = message["ReceiptHandle"]
    try:
        body = json.loads(message["Body"])
    except (ValueError, RecursionError):
        return Failed(message["Body"], "", url, receipt, "is not JSON")
    if not isinstance(body, dict):
        return Failed(message["Body"], "", url, receipt, "is not a JSON object")
    if "requestPayload" in body:
        event, error = body["requestPayload"], _error_of(body)
        if not isinstance(event, dict):
            return Failed(
                message["Body"], error, url, receipt, "has an event that is not a JSON object"
            )
    else:
        event, error = body, _error_beside(message.get("MessageAttributes", {}))
    failed = Failed(event, error, url, receipt)
    return failed if failed.is_of_the_schedule else replace(failed, held=_held(event))


def _error_beside(attributes: dict[str, Any]) -> str:
    """Return what went wrong with an event that came bare, by what stands beside it."""
    if "times" in attributes:
        # SQS itself moved it here, from the queue of what waits, and keeps no error.
        return "failed after it was put off: the log of its id says why"
    return str(attributes.get("ERROR_MESSAGE", {}).get("StringValue", "undelivered"))


def _error_of(record: dict[str, Any]) -> str:
    """Return what went wrong, as Lambda's *record* has it: the exception, or the condition."""
    for part, name in (("responsePayload", "errorMessage"), ("requestContext", "condition")):
        found = record.get(part)
        if isinstance(found, str):
            return found
        if isinstance(found, dict) and isinstance(found.get(name), str):
            return str(found[name])
    return "no error was given"


def _held(event: dict[str, Any]) -> str | None:
    """
    Return why *event* is not sent again, or None.

    Who may put a message into a queue must not come by it to what only ``lambda:InvokeFunction``
    allows: what did not come over EventBridge, such as a rollback, is for a person to send.
    """
    if not ("source" in event and "detail-type" in event):
        return "did not come over EventBridge: send it yourself, if it is yours"
    for name in ("source", "detail-type"):
        if not isinstance(event[name], str) or not event[name]:
            return f"{name} is not text, as in each event of EventBridge"
    ident = event.get("id")
    if not isinstance(ident, str) or not _EVENT_ID.fullmatch(ident):
        return "id is not one of EventBridge's"
    return None if isinstance(event.get("detail"), dict) else "detail is not a JSON object"


def run(redrive: Redrive, *, send: bool) -> int:
    """List what waits, and *send* it again; return the exit status: 1 when something is left."""
    waiting = redrive.waiting()
    sent, ticks, left = 0, 0, 0
    for failed in waiting:
        print(failed.line)
        if failed.held or not send:
            left += 1
            redrive.release(failed)
            continue
        try:
            redrive.send(failed)
        except (BotoCoreError, ClientError) as error:
            left += 1
            print(f"  not sent: {shown(error)}")
            redrive.release(failed)
        else:
            ticks += failed.is_of_the_schedule
            sent += not failed.is_of_the_schedule
    if not send:
        print(f"{left} event(s) wait")
        return 0
    print(
        f"{sent} event(s) sent again"
        + (f", {ticks} of a schedule dropped: the next sweep does better" if ticks else "")
        + (f", {left} left in the queue" if left else "")
    )
    return 1 if left else 0


def main(words: list[str]) -> int:
    """List what waits, or send it again after a yes."""
    parser = commands.parser("infra.redrive", __doc__)
    parser.add_argument("--stack", default="day2")
    parser.add_argument("--list", action="store_true", help="change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask, as in CI")
    arguments = parser.parse_args(words)

    def command(session: Any) -> int:
        if arguments.list:
            # Nothing waits in most accounts: say which one that is.
            print(account.place(session, arguments.stack), file=sys.stderr)
        else:
            what = "send again what waits there"
            account.confirm(session, arguments.stack, what, yes=arguments.yes)
        return run(Redrive(arguments.stack, session.client), send=not arguments.list)

    return account.carried_out(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
