"""An AWS account with the stack deployed, as its customers, its operators and AWS itself use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from botocore.config import Config
from localstack_client.session import Session

from infra.invoke import Call
from infra.local import stack, workflow
from infra.local.local_aws import LocalAws
from tests.equipment.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
FLEET = "_fleet"
LISTENER = "e2e"
LATEST_LINE_MS = 10_000

# What the samples in events/ are about.
SAMPLE_INSTANCE = "orders"
SAMPLE_ACCOUNT = "123456789012"
LOCAL_ACCOUNT = "000000000000"

Matches = Callable[[dict[str, Any]], bool]


def sample(name: str, instance: str) -> Any:
    """
    Return the event *name* of ``events/``, word for word but for whom it is about.

    The account must be ours, since every rule pins it.
    """
    text = (ROOT / "events" / f"{name}.json").read_text()
    text = text.replace(SAMPLE_INSTANCE, instance).replace(SAMPLE_ACCOUNT, LOCAL_ACCOUNT)
    return json.loads(text)


def samples(pattern: str) -> list[str]:
    """Return the names of the samples that match *pattern*."""
    return sorted(file.stem for file in (ROOT / "events").glob(f"{pattern}.json"))


@dataclass
class Account:
    """
    The local AWS of the test run, by clients of localstack-client.

    Attributes:
        events: What was on the bus since the tests began and no test has taken yet.
    """

    aws: LocalAws
    outputs: dict[str, str]
    events: list[dict[str, Any]] = field(default_factory=list)
    _clients: dict[str, Any] = field(default_factory=dict)
    _queue: str = ""
    _runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    _read_until: int = 0

    def client(self, service: str) -> Any:
        """Return the client of *service*."""
        if service not in self._clients:
            keys = self.aws.state.keys()
            session = Session(
                keys.access_key_id,
                keys.secret_access_key,
                localstack_host=f"127.0.0.1:{self.aws.port}",
            )
            # A call that is tried again behind our back would be a second event or run.
            once = Config(retries={"total_max_attempts": 1})
            self._clients[service] = session.client(service, config=once)
        return self._clients[service]

    # Instances

    def create(self, name: str, *, tagged: bool = True, **more: Any) -> None:
        """Ask for the instance *name*, with a managed master secret unless *more* says else."""
        request = {
            "DBInstanceIdentifier": name,
            "Engine": "postgres",
            "DBInstanceClass": "db.t4g.micro",
            "AllocatedStorage": 20,
            "DBName": "shop",
            "MasterUsername": "postgres",
            **({} if "MasterUserPassword" in more else {"ManageMasterUserPassword": True}),
            **({"Tags": [{"Key": stack.STACK, "Value": "enabled"}]} if tagged else {}),
            **more,
        }
        self.client("rds").create_db_instance(**request)

    def instance(self, name: str) -> dict[str, Any]:
        """Return what RDS says of *name*."""
        found = self.client("rds").describe_db_instances(DBInstanceIdentifier=name)
        return dict(found["DBInstances"][0])

    def has_become(self, name: str, status: str) -> dict[str, Any]:
        """Return what RDS says of *name*, once it has *status*."""

        def found() -> dict[str, Any] | None:
            instance = self.instance(name)
            return instance if instance["DBInstanceStatus"] == status else None

        return dict(wait_for(found, f"{name} {status}"))

    def create_at(self, name: str, revision: str) -> None:
        """Make the managed instance *name*, and have it migrated to *revision*."""
        self.declare_ahead(name, revision)
        self.create(name)
        self.result(name, outcome="APPLIED", final_revision=revision)

    def remove(self, *names: str) -> None:
        """Delete instances and what is kept of them."""
        for name in names:
            workflow.remove_instance(self.aws, name)
            parameters = [self.target_parameter(name), self.observed_parameter(name)]
            self.client("ssm").delete_parameters(Names=parameters)

    # Parameters

    def target_parameter(self, name: str) -> str:
        """Return the parameter that declares the target of *name*."""
        return f"/{stack.STACK}/{name}/target-revision"

    def observed_parameter(self, name: str) -> str:
        """Return the parameter that holds the observed state of *name*."""
        return f"/{stack.STACK}/{name}/observed-state"

    def declare(self, name: str, revision: str) -> str:
        """Write the target of *name*, as its owner does; return the id of the event of that."""
        parameter = self.target_parameter(name)
        self.client("ssm").put_parameter(
            Name=parameter, Value=revision, Type="String", Overwrite=True
        )
        return str(self.changed(parameter)["id"])

    def declare_ahead(self, name: str, revision: str) -> None:
        """Write the target of *name*, which is not there yet, and let the event of that pass."""
        assert self.run(self.declare(name, revision))["reason"] == "no-such-instance"

    def declare_unheard(self, name: str, revision: str) -> None:
        """Write the target of *name* while its event gets lost."""
        events, rule = self.client("events"), f"{stack.STACK}-parameters"
        # LocalStack's bus does not heed disable_rule.
        targets = events.list_targets_by_rule(Rule=rule)["Targets"]
        events.remove_targets(Rule=rule, Ids=[target["Id"] for target in targets])
        try:
            self.declare(name, revision)
        finally:
            events.put_targets(Rule=rule, Targets=targets)

    def observed(self, name: str) -> dict[str, Any]:
        """Return the observed state of *name*."""
        found = self.client("ssm").get_parameter(Name=self.observed_parameter(name))
        return dict(json.loads(found["Parameter"]["Value"]))

    # The function

    def invoke(self, function: str = "", /, **request: Any) -> Call:
        """Send a direct request to the deployed function, or to another *function*."""
        answer = self.client("lambda").invoke(
            FunctionName=function or self.outputs["FunctionName"], Payload=json.dumps(request)
        )
        request_id = answer["ResponseMetadata"]["RequestId"]
        return Call(
            json.loads(answer["Payload"].read()),
            answer.get("FunctionError"),
            request_id,
            (self.aws.state.calls / f"{request_id}.log").read_text(),
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a direct request and return the body of its answer."""
        call = self.invoke(**request)
        assert call.function_error is None, call.log
        return dict(call.response["body"])

    def sweep(self, *, full: bool = False) -> dict[str, Any]:
        """Invoke the function as one of its schedules does, with the input that its rule holds."""
        rule = f"{stack.STACK}-{'full-sweep' if full else 'sweep'}"
        (target,) = self.client("events").list_targets_by_rule(Rule=rule)["Targets"]
        assert target["Arn"] == self.outputs["FunctionArn"]
        return self.ask(**json.loads(target["Input"]))

    def revision(self, name: str) -> str | None:
        """Return the revision of the database of *name*, which the function reads from it."""
        found: str | None = self.ask(instance=name, action="status")["final_revision"]
        return found

    def next_revision(self, name: str) -> str:
        """Return the revision after the one that *name* is at."""
        known = [identifier for identifier, _ in workflow.revisions()]
        current = self.revision(name)
        return known[known.index(current) + 1 if current else 0]

    # The bus

    def listen(self) -> None:
        """Hear from now on what is on the bus."""
        sqs, events = self.client("sqs"), self.client("events")
        self._queue = sqs.create_queue(QueueName=LISTENER)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        pattern = {"source": [stack.STACK, "aws.ssm", "aws.rds"]}
        events.put_rule(Name=LISTENER, EventPattern=json.dumps(pattern))
        target = {"Id": "queue", "Arn": arn["Attributes"]["QueueArn"]}
        events.put_targets(Rule=LISTENER, Targets=[target])

    def listen_no_more(self) -> None:
        """Take the listener away."""
        self.client("events").remove_targets(Rule=LISTENER, Ids=["queue"])
        self.client("events").delete_rule(Name=LISTENER)
        self.client("sqs").delete_queue(QueueUrl=self._queue)

    def put(self, event: dict[str, Any]) -> str:
        """Put *event* on the bus and return the id that it got there."""
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
            "Resources": event.get("resources", []),
            **({"Time": event["time"]} if "time" in event else {}),
        }
        answer = self.client("events").put_events(Entries=[entry])
        assert answer["FailedEntryCount"] == 0
        return str(answer["Entries"][0]["EventId"])

    def take(self, matches: Matches, what: str) -> dict[str, Any]:
        """Wait for the first event that *matches*, and take it: nobody finds it again."""

        def found() -> dict[str, Any] | None:
            self._hear()
            return next((event for event in self.events if matches(event)), None)

        event: dict[str, Any] = wait_for(found, what)
        self.events.remove(event)
        return event

    def result(self, name: str, **wanted: Any) -> dict[str, Any]:
        """Take the next result event of *name* whose detail has what is *wanted*."""

        def matches(event: dict[str, Any]) -> bool:
            detail = event["detail"]
            return (
                event["detail-type"] in ("Migration Succeeded", "Migration Failed")
                and detail["instance"] == name
                and all(detail[key] == value for key, value in wanted.items())
            )

        return dict(self.take(matches, f"a result of {name} with {wanted}")["detail"])

    def rds_event(self, source: str, event_id: str) -> str:
        """Take the next event of RDS about *source* that has *event_id*; return its own id."""

        def matches(event: dict[str, Any]) -> bool:
            detail = event["detail"]
            found = (detail.get("SourceIdentifier"), detail.get("EventID"))
            return event["source"] == "aws.rds" and found == (source, event_id)

        return str(self.take(matches, f"{event_id} of {source}")["id"])

    def changed(self, parameter: str, operation: str | None = None) -> dict[str, Any]:
        """Take the next event of Parameter Store about *parameter*."""
        return self.take(
            lambda event: (
                event["source"] == "aws.ssm"
                and event["detail"]["name"] == parameter
                and operation in (None, event["detail"]["operation"])
            ),
            f"{operation or 'a change'} of {parameter}",
        )

    def _hear(self) -> None:
        sqs = self.client("sqs")
        while messages := sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                self.events.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    # The function's log

    def runs(self) -> list[dict[str, Any]]:
        """Return the closing line of every run since the tests began, as CloudWatch Logs has it."""
        pages = self.client("logs").get_paginator("filter_log_events")
        wanted = {"logGroupName": self.outputs["LogGroupName"], "startTime": self._read_until}
        for page in pages.paginate(**wanted):
            for event in page["events"]:
                # Streams of several processes come in no common order.
                self._read_until = max(self._read_until, event["timestamp"] - LATEST_LINE_MS)
                if event["eventId"] not in self._runs and '"run finished"' in event["message"]:
                    self._runs[event["eventId"]] = json.loads(event["message"])
        return [*self._runs.values()]

    def run(self, event_id: str) -> dict[str, Any]:
        """Return the closing line of the run that the event *event_id* woke, once it is there."""
        found: dict[str, Any] = wait_for(
            lambda: next((one for one in self.runs() if one["request_id"] == event_id), None),
            f"a run for event {event_id}",
        )
        return found

    def lines(self, request_id: str) -> list[dict[str, Any]]:
        """Return what the run *request_id* logged, once that has ended."""
        self.run(request_id)
        pages = self.client("logs").get_paginator("filter_log_events")
        found = pages.paginate(logGroupName=self.outputs["LogGroupName"])
        return [
            json.loads(event["message"])
            for page in found
            for event in page["events"]
            if request_id in event["message"] and event["message"].startswith("{")
        ]

    def ignored(self, name: str, reason: str) -> dict[str, Any]:
        """Return the closing line of a run that left *name* alone for *reason*."""
        found: dict[str, Any] = wait_for(
            lambda: next(
                (
                    one
                    for one in self.runs()
                    if (one.get("instance"), one.get("reason")) == (name, reason)
                ),
                None,
            ),
            f"{name} ignored for {reason}",
        )
        return found

    def wait_until_awake(self) -> None:
        """
        Wait until events reach the function again, after it was deployed anew.

        LocalStack drops those that come while it exchanges one build for the other.
        """
        put: set[str] = set()

        def heard() -> bool:
            put.add(self.put(sample("requested", "nobody-of-this-name")))
            return not put.isdisjoint(one["request_id"] for one in self.runs())

        wait_for(heard, "a run of the new build")

    @contextmanager
    def nothing_runs(self, name: str) -> Iterator[None]:
        """
        Assert that nothing inside wakes a run for *name*.

        The function takes its events in the order in which they come: when an event that was put
        last has had its run, all others have had theirs, if they got any.
        """
        before = {one["request_id"] for one in self.runs()}
        yield
        self.run(self.put(sample("requested", "nobody-of-this-name")))
        after = [one for one in self.runs() if one["request_id"] not in before]
        assert [one for one in after if one.get("instance") == name] == []

    # Failures

    def next_failure(self) -> dict[str, Any]:
        """Take the next message from the on-failure queue."""
        sqs, url = self.client("sqs"), self.outputs["FailuresQueueUrl"]

        def found() -> Any:
            return sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages")

        (message,) = wait_for(found, "a message in the on-failure queue")
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return dict(json.loads(message["Body"]))

    def failures(self) -> int:
        """Return how many messages the on-failure queue holds."""
        found = self.client("sqs").get_queue_attributes(
            QueueUrl=self.outputs["FailuresQueueUrl"],
            AttributeNames=["ApproximateNumberOfMessages"],
        )
        return int(found["Attributes"]["ApproximateNumberOfMessages"])

    # Databases

    def secret(self, name: str) -> dict[str, Any]:
        """Return the JSON in the secret *name*."""
        found = self.client("secretsmanager").get_secret_value(SecretId=name)
        return dict(json.loads(found["SecretString"]))

    def master(self, name: str) -> dict[str, Any]:
        """Return the managed master secret of the instance *name*."""
        return self.secret(self.instance(name)["MasterUserSecret"]["SecretArn"])

    def session(self, name: str, login: dict[str, Any] | None = None) -> Any:
        """Return a session with the database of *name*, over verified TLS, as *login*."""
        login = login or self.master(name)
        endpoint = self.has_become(name, "available")["Endpoint"]
        return psycopg2.connect(
            host=endpoint["Address"],
            port=endpoint["Port"],
            dbname="shop",
            user=login["username"],
            password=login["password"],
            sslmode="verify-full",
            sslrootcert=str(self.aws.state.ca_file),
        )

    def query(self, name: str, statement: str, login: dict[str, Any] | None = None) -> Any:
        """Return the first row of *statement* on *name*, as *login*."""
        session = self.session(name, login)
        with closing(session), session, session.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
