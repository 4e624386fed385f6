"""A day of one instance on the local AWS, and all that it left: events, log lines, queues."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from infra.local import stack, workflow
from infra.local.local_aws import LocalAws
from tests.equipment.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
INSTANCE = "orders"
TARGET = f"/day2/{INSTANCE}/target-revision"
OBSERVED = f"/day2/{INSTANCE}/observed-state"


def samples() -> dict[str, Any]:
    """Return every sample event by its name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(ROOT.glob("events/*.json"))}


@dataclass
class Story:
    """
    What is told, and the AWS that it happens on.

    Attributes:
        events: Every event of interest on the bus so far, oldest first.
        answers: The body of each direct request's response, by a name.
        failed: The message of the on-failure queue, whole.
        observed_at_end: The observed state at the end of the day.
        lines: The log of the day, as CloudWatch Logs has it.
        right_password: The master's, once the secret has another.
    """

    aws: LocalAws
    outputs: dict[str, str]
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, Any] = field(default_factory=dict)
    observed_at_end: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    right_password: str = ""
    _queue: str = ""
    _begun_ms: int = 0

    def begin(self) -> None:
        """Listen to the bus from now on, with no other instance left that could be told of."""
        rds = self.aws.client("rds")
        for instance in rds.describe_db_instances()["DBInstances"]:
            workflow.remove_instance(self.aws, instance["DBInstanceIdentifier"])
        # One that is being deleted is still listed, and a sweep would count it as skipped.
        wait_for(lambda: not rds.describe_db_instances()["DBInstances"], "no instance is left")
        sqs, events = self.aws.client("sqs"), self.aws.client("events")
        self._queue = sqs.create_queue(QueueName="story")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        pattern = {"source": ["day2", "aws.rds", "aws.ssm"]}
        events.put_rule(Name="story", EventPattern=json.dumps(pattern))
        target = {"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}
        events.put_targets(Rule="story", Targets=[target])
        # What other tests have had it do before is nothing of this day.
        self._begun_ms = int(time.time() * 1000)

    def end(self) -> None:
        """Listen no more, and delete the instance."""
        workflow.remove_instance(self.aws, INSTANCE)
        self.aws.client("events").remove_targets(Rule="story", Ids=["queue"])
        self.aws.client("events").delete_rule(Name="story")
        self.aws.client("sqs").delete_queue(QueueUrl=self._queue)

    def tell(self) -> None:
        """Play the day: an instance appears, a bump fails, it is looked at, and swept."""
        self.declare("002")
        self.aws.client("rds").create_db_instance(
            DBInstanceIdentifier=INSTANCE,
            Engine="postgres",
            DBInstanceClass="db.t4g.micro",
            AllocatedStorage=20,
            DBName=INSTANCE,
            MasterUsername="postgres",
            ManageMasterUserPassword=True,
            Tags=[{"Key": "day2", "Value": "enabled"}],
        )
        self.heard("Migration Succeeded")
        self.ask("status", {"instance": INSTANCE, "action": "status"})
        self.ask("again", {"instance": INSTANCE})
        self.ask("refused", {"instance": INSTANCE, "target_revision": "999"})
        self.spoil_secret()
        self.declare("003")
        self.failed = self.next_failed()
        # The parameter was there before the instance, so its sweep finds it blocked.
        self.ask("sweep", samples()["sweep_scheduled"])
        swept = self.answers["sweep"]["request_id"]
        wait_for(lambda: any(self._ended(line, swept) for line in self.log()), "the sweep's log")
        self.lines, self.observed_at_end = self.log(), self.observed()

    @property
    def applied(self) -> dict[str, Any]:
        """The result event of the run that applied something."""
        events = self.heard("Migration Succeeded")
        return next(one for one in events if one["detail"]["outcome"] == "APPLIED")

    @staticmethod
    def _ended(line: dict[str, Any], request_id: str) -> bool:
        return line.get("message") == "run finished" and line["request_id"] == request_id

    def declare(self, revision: str) -> None:
        """Write the instance's target."""
        self.aws.client("ssm").put_parameter(
            Name=TARGET, Value=revision, Type="String", Overwrite=True
        )

    def ask(self, name: str, event: Any) -> None:
        """Invoke the function and keep its answer under *name*."""
        call = stack.invoke(self.aws, event)
        assert call.function_error is None, call.log
        self.answers[name] = call.response["body"]

    def spoil_secret(self) -> None:
        """Write a wrong password into the master secret."""
        self.right_password = self.swap_password("no longer right")

    def swap_password(self, password: str) -> str:
        """Write *password* into the master secret; return the one that was there."""
        found = self.aws.client("rds").describe_db_instances(DBInstanceIdentifier=INSTANCE)
        arn = found["DBInstances"][0]["MasterUserSecret"]["SecretArn"]
        client = self.aws.client("secretsmanager")
        secret = json.loads(client.get_secret_value(SecretId=arn)["SecretString"])
        earlier, secret["password"] = secret["password"], password
        client.put_secret_value(SecretId=arn, SecretString=json.dumps(secret))
        return str(earlier)

    def heard(self, detail_type: str, *, at_least: int = 1) -> list[dict[str, Any]]:
        """Return all events of *detail_type* so far, once there are *at_least* so many."""

        def found() -> list[dict[str, Any]]:
            self._listen()
            return [one for one in self.events if one["detail-type"] == detail_type]

        wait_for(lambda: len(found()) >= at_least, detail_type)
        return found()

    def _listen(self) -> None:
        sqs = self.aws.client("sqs")
        answer = sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            self.events.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    def next_failed(self) -> dict[str, Any]:
        """Return the message in the on-failure queue, and leave it there."""
        sqs, url = self.aws.client("sqs"), self.outputs["FailuresQueueUrl"]

        def found() -> Any:
            return sqs.receive_message(QueueUrl=url, VisibilityTimeout=0).get("Messages")

        (message,) = wait_for(found, "a failed event in its queue")
        return dict(json.loads(message["Body"]))

    def observed(self) -> dict[str, Any]:
        """Return the observed state, as its parameter holds it."""
        value = self.aws.client("ssm").get_parameter(Name=OBSERVED)["Parameter"]["Value"]
        return dict(json.loads(value))

    def log(self) -> list[dict[str, Any]]:
        """Return every line of the day in the function's log that is JSON, as CloudWatch has it."""
        pages = self.aws.client("logs").get_paginator("filter_log_events")
        try:
            told = pages.paginate(
                logGroupName=self.outputs["LogGroupName"], startTime=self._begun_ms
            )
            lines = [
                line | {"@timestamp": event["timestamp"], "@message": json.dumps(line)}
                for page in told
                for event in page["events"]
                for line in _objects(event["message"])
            ]
        except ClientError as error:
            raise AssertionError("the function has no log") from error
        return sorted(lines, key=lambda line: line["@timestamp"])


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the lines of *text* that are JSON objects."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
