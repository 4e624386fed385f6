"""Events that something else wrapped: each raises, and says as what it came."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from core.errors import InvalidField
from handlers.requests import asks_to_raise, is_event, parse
from tests.conftest import ROOT

# What must not be in any text: whoever has the URL of a custom resource can answer for it.
SECRET = "https://cloudformation.example/?X-Amz-Signature=s3cr3t"

EVENT: dict[str, Any] = json.loads((ROOT / "events" / "instance_created.json").read_text())
PARAMETER = json.loads((ROOT / "events" / "parameter_updated.json").read_text())
REQUEST = {"instance": "orders", "action": "status"}
RDS_MESSAGE = {
    "Event Source": "db-instance",
    "Event Time": "2026-11-25 08:00:00.000",
    "Source ID": "orders",
    "Event ID": "http://docs.amazonwebservices.com/AmazonRDS/latest/UserGuide/#RDS-EVENT-0005",
    "Event Message": "DB instance created",
}


def sns(message: object) -> dict[str, Any]:
    """Return what SNS invokes a function with."""
    sent = {"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": json.dumps(message)}
    return {"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": sent}]}


def records(source: str) -> dict[str, Any]:
    """Return what an event source mapping or notification of *source* invokes with."""
    return {"Records": [{"eventSource": source, "body": json.dumps(EVENT)}]}


WRAPPED: dict[str, tuple[object, str]] = {
    "RDS subscription by SNS": (sns(RDS_MESSAGE), "an SNS notification"),
    "EventBridge by SNS": (sns(EVENT), "an SNS notification"),
    "SNS, raw": (sns(EVENT)["Records"][0]["Sns"], "an SNS notification"),
    "RDS subscription, raw": (RDS_MESSAGE, "an RDS event subscription"),
    "SQS": (records("aws:sqs"), "an SQS message"),
    "S3": (records("aws:s3"), "an S3 notification"),
    "Kinesis": (records("aws:kinesis"), "Kinesis records"),
    "DynamoDB": (records("aws:dynamodb"), "DynamoDB stream records"),
    "SES": (records("aws:ses"), "records of another service"),
    "no records": ({"Records": []}, "records of another service"),
    "odd records": ({"Records": [{"eventSource": ["aws:sqs"]}]}, "records of another service"),
    "Firehose": (
        {"invocationId": "1", "deliveryStreamArn": "arn", "records": [{"data": "e30="}]},
        "records of another service",
    ),
    "Kafka": ({"eventSource": "aws:kafka", "records": {"t-0": []}}, "records of another service"),
    "Pipes": ([EVENT], "a list"),
    "Pipes of SQS": (records("aws:sqs")["Records"], "an SQS message"),
    "a list of requests": ([REQUEST, REQUEST], "a list"),
    "InputPath $.detail of RDS": (EVENT["detail"], "a part of an event"),
    "InputPath $.detail of SSM": (PARAMETER["detail"], "a part of an event"),
    "InputPath $.detail of a request": (
        {"instance": "orders", "continues": "f4767f26-2943-45b2-b21d-ea3bf63f23d0"},
        "a part of an event",
    ),
    "InputTransformer without source": (
        {name: value for name, value in EVENT.items() if name != "source"},
        "a part of an event",
    ),
    "InputTransformer without detail-type": (
        {name: value for name, value in EVENT.items() if name != "detail-type"},
        "a part of an event",
    ),
    "InputTransformer of its own": (
        {"id": "orders", "event": "RDS-EVENT-0005"},
        "an object with none of the fields of a request",
    ),
    "CloudFormation": (
        {
            "RequestType": "Create",
            "ResponseURL": SECRET,
            "StackId": "arn:aws:cloudformation:x",
            "ResourceProperties": {"ServiceToken": "arn", **REQUEST},
        },
        "a CloudFormation custom resource",
    ),
    "function URL": (
        {
            "version": "2.0",
            "rawPath": "/",
            "requestContext": {"http": {"method": "POST"}},
            "body": json.dumps(REQUEST),
        },
        "an HTTP request",
    ),
    "API Gateway": (
        {"httpMethod": "POST", "path": "/", "requestContext": {}, "body": json.dumps(REQUEST)},
        "an HTTP request",
    ),
    "load balancer": ({"requestContext": {"elb": {}}, "httpMethod": "POST"}, "an HTTP request"),
    "HTTP with a request's fields": (REQUEST | {"requestContext": {}}, "an HTTP request"),
    "Lambda destination": (
        {
            "version": "1.0",
            "requestContext": {"condition": "RetriesExhausted"},
            "requestPayload": EVENT,
            "responsePayload": {},
        },
        "the record of a Lambda destination",
    ),
    "task token": (REQUEST | {"TaskToken": "AAAA"}, "a task of Step Functions"),
    "task token by another name": ({"input": REQUEST, "token": "A"}, "a task of Step Functions"),
    "a task's result": ({"Payload": REQUEST, "StatusCode": 200}, "a task of Step Functions"),
    "CloudWatch Logs": ({"awslogs": {"data": "H4sI"}}, "CloudWatch Logs data"),
    "CloudWatch alarm": (
        {"source": "aws.cloudwatch", "alarmArn": "arn", "alarmData": {}},
        "a CloudWatch alarm",
    ),
    "rotation": (
        {"Step": "createSecret", "SecretId": "arn", "ClientRequestToken": "1"},
        "a rotation of Secrets Manager",
    ),
    "AWS Config": (
        {"invokingEvent": "{}", "resultToken": "t", "ruleParameters": "{}"},
        "an AWS Config rule",
    ),
    "JSON text": (json.dumps(REQUEST), "a JSON string"),
    "a request inside": ({"input": REQUEST}, "an object that holds the request inside"),
    "console's own test": (
        {"key1": "value1", "key2": "value2"},
        "an object with none of the fields of a request",
    ),
}


def test_what_came_wrapped_raises_and_says_as_what_it_came(subtests: pytest.Subtests) -> None:
    """Nobody would read the answer, so a failure has to be an exception."""
    for name, (raw, came_as) in WRAPPED.items():
        with subtests.test(name):
            with pytest.raises(InvalidField) as caught:
                parse(raw, "day2")

            assert str(caught.value).startswith(f"event: came as {came_as}")
            # A problem and a remedy, and nothing of what the event holds.
            assert str(caught.value).count(": ") >= 2
            assert SECRET not in str(caught.value)
            assert (asks_to_raise(raw), is_event(raw)) == (True, False)


@pytest.mark.parametrize("queue", ["", "arn:aws:sqs:us-east-1:123456789012:other"])
def test_another_queues_message_is_a_wrapping_whatever_it_holds(
    queue: str, load_event: Callable[[str], Any]
) -> None:
    """Only the stack's own queue is unwrapped, by its ARN; a stack without one unwraps none."""
    with pytest.raises(InvalidField, match="came as an SQS message"):
        parse(load_event("waited"), "day2", queue)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        REQUEST,
        REQUEST | {"revision": "004"},
        {"Instance": "orders"},
        {"instanceId": "orders", "target-revision": "004"},
        {"secretName": "orders-master"},
        None,
        7,
        "orders",
        [],
        ["orders"],
    ],
)
def test_a_wrong_request_of_a_caller_is_answered(raw: object) -> None:
    """Whoever misspells a field, or sends nothing, reads what is wrong with it."""
    assert not asks_to_raise(raw)


def test_text_without_end_is_not_followed() -> None:
    """Deep nesting is no object, and no surprise."""
    assert not asks_to_raise("[" * 100_000)
