"""What is sent on: events to the bus, events for later to the queue, notes to a topic."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

from core.aws.calls import Calls
from core.budget import pauses
from core.decisions.refusals import is_busy
from core.errors import NotFound, NotReady, RunFailed

logger = logging.getLogger(__name__)

PUT_EVENTS_BATCH = 10


class Messages(Calls):
    """The default bus, the stack's own queue, and topics."""

    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None:
        """
        Put one event for each of *details* on the default bus, in batches of ten.

        Raises:
            NotReady: The bus was busy for too long. PutEvents itself does not raise then: its
                answer counts what it refused (EventBridge API, ``FailedEntryCount``).
            RunFailed: It refused some for good.
        """
        entries = [
            {
                "Source": self._prefix,
                "DetailType": detail_type,
                "Detail": json.dumps(detail, default=str),
            }
            for detail in details
        ]
        for tried, pause in enumerate(pauses(0.2, 2.0), start=1):
            # All of them once before any is tried again: what is refused keeps nobody waiting.
            refused = [
                one
                for start in range(0, len(entries), PUT_EVENTS_BATCH)
                for one in self._put_batch(entries[start : start + PUT_EVENTS_BATCH])
            ]
            entries = [entry for entry, _ in refused]
            if not entries:
                return
            for_good = sorted({code for _, code in refused if not is_busy(code)})
            if for_good:
                raise RunFailed(
                    f"the event bus refused {len(entries)} event(s): {', '.join(for_good)}"
                )
            if not self._may_ask_again(tried, pause):
                break
            self._pause(pause)
        raise NotReady(f"the event bus refused {len(entries)} event(s): try again later")

    def _put_batch(self, batch: list[dict[str, str]]) -> list[tuple[dict[str, str], str]]:
        """Put *batch* on the bus, and return each entry that it refused, with its code."""
        answer = self._call(
            "events:PutEvents",
            "the default bus",
            lambda: self._client("events").put_events(Entries=batch),
        )
        # The run that an event wakes has its id: so one run leads to the next.
        ids = [result["EventId"] for result in answer["Entries"] if "EventId" in result]
        logger.info("put %s on the bus", batch[0]["DetailType"], extra={"event_ids": ids})
        return [
            (entry, result["ErrorCode"])
            for entry, result in zip(batch, answer["Entries"], strict=True)
            if "ErrorCode" in result
        ]

    def ask_later(
        self, event: Mapping[str, object], waiting: Mapping[str, str], *, delay_seconds: int
    ) -> None:
        """
        Put *event* into the stack's own queue, with *waiting* as attributes.

        The function gets it when *delay_seconds* are over (SQS API, SendMessage: up to 900).
        """
        url = self._settings.waiting_queue_url
        attributes = {
            name: {"DataType": "String", "StringValue": value} for name, value in waiting.items()
        }
        self._call(
            "sqs:SendMessage",
            url,
            lambda: self._client("sqs").send_message(
                QueueUrl=url,
                MessageBody=json.dumps(event),
                DelaySeconds=delay_seconds,
                MessageAttributes=attributes,
            ),
        )

    def publish(self, topic_arn: str, subject: str, text: str) -> None:
        """Send *text* to the topic *topic_arn*."""
        self._call(
            "sns:Publish",
            topic_arn,
            lambda: self._client("sns").publish(TopicArn=topic_arn, Subject=subject, Message=text),
            NotFound,
        )
