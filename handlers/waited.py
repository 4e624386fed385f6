"""
What has waited in the stack's own queue: the event itself, and how it has waited.

``core/actions/later.py`` writes what is read here. A message of any other queue is a wrapping
like others (``handlers/wrapped.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from core.errors import InvalidField
from core.model import Waiting

_MOST_DIGITS = 4


def event_that_waited(raw: object) -> object | None:
    """Return what the body of a message from a queue is, if *raw* is one message and JSON."""
    match raw:
        case {"Records": [{"eventSource": "aws:sqs", "body": str(body)}]}:
            try:
                event: object = json.loads(body)
            except (ValueError, RecursionError):
                return None
            return event
    return None


def waited(raw: object, queue_arn: str) -> Waiting | None:
    """
    Return how *raw* has waited, or ``None`` where it is not a message of the queue *queue_arn*.

    The form is that of the Lambda Developer Guide, "Using Lambda with Amazon SQS".

    Raises:
        InvalidField: It is, and is not one message with the attributes that we write.
    """
    match raw:
        case {"Records": [{"eventSourceARN": arn} as message, *others]} if arn == queue_arn != "":
            if others:
                raise InvalidField(
                    "Records", "are several messages", "set BatchSize of the mapping to 1"
                )
            attributes = message.get("messageAttributes")
            given = attributes if isinstance(attributes, dict) else {}
            return Waiting(_time(given, "since"), _time(given, "until"), _count(given, "times"))
    return None


def _text(attributes: Mapping[str, Any], name: str) -> str:
    match attributes.get(name):
        case {"stringValue": str(value)}:
            return value
    raise InvalidField(f"messageAttributes.{name}", "is missing", "put only what day2 puts there")


def _time(attributes: Mapping[str, Any], name: str) -> datetime:
    value = _text(attributes, name)
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InvalidField(
            f"messageAttributes.{name}",
            f"{value!r} is not a time with a zone",
            "write 2026-11-22T10:00:00+00:00",
        )
    return time


def _count(attributes: Mapping[str, Any], name: str) -> int:
    value = _text(attributes, name)
    if not (value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS):
        raise InvalidField(
            f"messageAttributes.{name}", f"{value!r} is not a count", "use digits only"
        )
    return int(value)
