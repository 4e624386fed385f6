"""Fixtures of the local AWS.  A pytest plugin: whoever starts pytest lists it."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from infra import package
from infra.invoke import Call
from infra.local import stack
from infra.local.local_aws import LocalAws
from infra.local.state import State, free_port
from tests.equipment.waiting import wait_for

ROLE = "arn:aws:iam::000000000000:role/tests"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what asks for the local AWS, whichever fixture it asks by: ``-m local_aws`` is all."""
    if "local_aws" in getattr(item, "fixturenames", ()):
        item.add_marker("local_aws")


def pytest_sessionstart() -> None:
    """Clean what killed test runs have left."""
    LocalAws.clean_abandoned()


def pytest_sessionfinish() -> None:
    """Leave nothing of this one, the servers of its tests included."""
    LocalAws(State.of_process()).clean()


@pytest.fixture(scope="session")
def local_aws() -> Iterator[LocalAws]:
    """Start a local AWS of this test run alone; no stack is deployed in it."""
    aws = LocalAws(State.of_process())
    aws.up(port=free_port())
    yield aws
    aws.clean()


@pytest.fixture(scope="session")
def deployed(local_aws: LocalAws) -> dict[str, str]:
    """Deploy infra/template.yaml with a package of this checkout; return the stack's outputs."""
    return stack.deploy(local_aws)


@dataclass(frozen=True)
class LocalFunction:
    """A small Lambda function of a test's own."""

    aws: LocalAws
    name: str

    def invoke(self, event: Any = None) -> Call:
        """Invoke it and return what came of it."""
        return stack.invoke(self.aws, event, function=self.name)


@pytest.fixture(scope="session")
def make_function(local_aws: LocalAws) -> Callable[..., LocalFunction]:
    """Make a function from the source of its module, in which ``handler`` takes the event."""
    client = local_aws.client("lambda")

    def make(
        source: str, *, timeout_seconds: int = 10, layers: list[dict[str, str]] | None = None
    ) -> LocalFunction:
        made = sum(1 for _ in client.list_functions()["Functions"])
        name = f"function-{made}"
        arns = [
            client.publish_layer_version(
                LayerName=f"{name}-{number}", Content={"ZipFile": zipped(files)}
            )["LayerVersionArn"]
            for number, files in enumerate(layers or [])
        ]
        client.create_function(
            FunctionName=name,
            Runtime=package.here().runtime,
            Handler="function.handler",
            Role=ROLE,
            Code={"ZipFile": zipped({"function.py": source})},
            Timeout=timeout_seconds,
            Layers=arns,
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        return LocalFunction(local_aws, name)

    return make


def zipped(files: dict[str, str]) -> bytes:
    """Return a zip of *files*, text by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


@dataclass(frozen=True)
class Bus:
    """A queue with every event on the default bus that matches a pattern."""

    aws: LocalAws
    url: str

    def next(self) -> dict[str, Any]:
        """Return the next event, whole; fail when none comes."""
        queue = self.aws.client("sqs")

        def received() -> Any:
            # The longest that SQS waits.
            found = queue.receive_message(
                QueueUrl=self.url, WaitTimeSeconds=20, MaxNumberOfMessages=1
            )
            return found.get("Messages")

        (message,) = wait_for(received, "an event on the bus")
        queue.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return dict(json.loads(message["Body"]))


@pytest.fixture
def bus(local_aws: LocalAws, request: pytest.FixtureRequest) -> Iterator[Callable[..., Bus]]:
    """Make a queue that gets every event on the default bus that matches a pattern."""
    sqs, events = local_aws.client("sqs"), local_aws.client("events")
    made: list[tuple[str, str]] = []

    def listen(pattern: dict[str, Any]) -> Bus:
        name = f"bus-{abs(hash(request.node.nodeid)):x}-{len(made)}"
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        target = {"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}
        events.put_targets(Rule=name, Targets=[target])
        made.append((name, url))
        return Bus(local_aws, url)

    yield listen
    for name, url in made:
        events.remove_targets(Rule=name, Ids=["queue"])
        events.delete_rule(Name=name)
        sqs.delete_queue(QueueUrl=url)
