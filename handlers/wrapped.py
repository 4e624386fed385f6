"""
Events that come wrapped: what they came as, and how to send them as they are.

Whatever wraps an event also reads no answer, or takes any answer for a success. So such an
event has to raise, and this says why. Nothing of others is unwrapped: a topic or a queue in between
has retries, an order and a policy of its own, which nobody has thought of here. What has waited in
the stack's own queue is (``handlers/waited.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# What the event came as, and how to send it instead.
Wrapping = tuple[str, str]

_RULE = "make the function itself the target of the EventBridge rule, with no input transformation"

_SNS = ("an SNS notification", _RULE)
_PART = ("a part of an event", _RULE)
_TEXT = ("a JSON string", "send the JSON object itself, encoded once")
_INSIDE = ("an object that holds the request inside", "send the inner object itself")
_FOREIGN = (
    "an object with none of the fields of a request",
    f'send {{"instance": …}}; for an event, {_RULE}',
)
_LIST = (
    "a list, as EventBridge Pipes and batches hand it over",
    "send each event or request by itself",
)
_STEP = (
    "a task of Step Functions that waits for a token, or hands on its whole state",
    "give the task the request itself as Payload, and take its result, not a token's",
)
_STACK = (
    "a CloudFormation custom resource",
    "declare the target by the instance's parameter target-revision: its event wakes the function",
)
_DESTINATION = (
    "the record of a Lambda destination",
    "send the requestPayload in it again, as make redrive does",
)
_HTTP = (
    "an HTTP request (API Gateway, function URL or load balancer)",
    "invoke the function by the Lambda API",
)
_ROTATION = ("a rotation of Secrets Manager", "name a rotation function there, not day2")

# A record says where it comes from.
_SOURCES = {
    "aws:sns": _SNS,
    "aws:sqs": ("an SQS message", _RULE),
    "aws:s3": ("an S3 notification", _RULE),
    "aws:kinesis": ("Kinesis records", _RULE),
    "aws:dynamodb": ("DynamoDB stream records", _RULE),
}


def wrapping_of(raw: object, fields: tuple[str, ...]) -> Wrapping | None:
    """
    Return what *raw*, which is not an event of EventBridge, came as, if that is a wrapping.

    *fields* are the names in a direct request. Whoever misspells one is answered; what has
    nothing like any of them was not written by a caller who reads an answer.

    The shapes are those of the AWS Lambda Developer Guide, "Invoking Lambda with events from
    other AWS services", and of the CloudFormation User Guide, "Custom resource request
    reference".
    """
    match raw:
        case str() if _is_json_object(raw):
            return _TEXT
        case [dict() as first, *_]:
            return _source(first) or _LIST
        case dict() if not set(raw) <= set(fields):
            return _message(raw) or _call(raw) or _by_names(raw, fields)
    return None


def _message(raw: Mapping[str, Any]) -> Wrapping | None:
    """Return by what an event was brought: a topic, a queue, a stream, or a part of a rule."""
    match raw:
        case {"Records": [dict() as first, *_]}:
            return _source(first) or ("records of another service", _RULE)
        case {"Records": _} | {"records": _}:
            return ("records of another service", _RULE)
        case {"Type": _, "TopicArn": _, "Message": _}:
            return _SNS
        case {"Event Source": _, "Source ID": _} | {"Event Source": _, "Event ID": _}:
            return ("an RDS event subscription", f"{_RULE}, for events of aws.rds")
        case {"awslogs": _}:
            return ("CloudWatch Logs data", _RULE)
        case {"alarmArn": _, "alarmData": _}:
            return ("a CloudWatch alarm", _RULE)
        # An input path or a transformer: the envelope without its source, or one of our details.
        case {"detail": _} | {"detail-type": _} | {"continues": _}:
            return _PART
        case {"SourceIdentifier": _} | {"SourceType": _} | {"operation": _, "name": _}:
            return _PART
    return None


def _call(raw: Mapping[str, Any]) -> Wrapping | None:
    """Return as whose call it came: of somebody who waits for an answer of another form."""
    match raw:
        case {"RequestType": _, "ResponseURL": _}:
            return _STACK
        case {"requestPayload": _, "requestContext": _}:
            return _DESTINATION
        case {"requestContext": _} | {"httpMethod": _}:
            return _HTTP
        case {"Step": _, "SecretId": _, "ClientRequestToken": _}:
            return _ROTATION
        case {"invokingEvent": _, "resultToken": _}:
            return ("an AWS Config rule", _RULE)
        case {"Payload": _}:
            return _STEP
    return None


def _source(record: Mapping[str, Any]) -> Wrapping | None:
    """Return what a record says of where it comes from; SNS writes that name with a capital."""
    source = record.get("eventSource", record.get("EventSource"))
    return _SOURCES.get(source) if isinstance(source, str) else None


def _by_names(raw: Mapping[str, Any], fields: tuple[str, ...]) -> Wrapping | None:
    """Return what the names in *raw* tell: a task token, or nothing like a request's fields."""
    known = {_bare(name) for name in fields}
    names = {_bare(name) for name in raw}
    # Step Functions waits for the token to be sent back, and passes over the answer.
    if any(name.endswith("token") for name in names):
        return _STEP
    if names & known:
        return None
    for value in raw.values():
        if isinstance(value, dict) and known & {_bare(name) for name in value}:
            return _INSIDE
    return _FOREIGN


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
