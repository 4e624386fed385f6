"""
A small AWS on a loopback port: what the function calls, and no more, quick enough to be killed.

The real client library talks to it, so what is proven is the function as it is deployed. Its
state is plain dictionaries that a test reads and writes; faults are errors that it answers
with. The whole local AWS (``infra/local``) is for what it cannot show: rules, queues, retries.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

ACCOUNT = "000000000000"
REGION = "us-east-1"


class AwsError(Exception):
    """An error that AWS answers with: its code, and the HTTP status."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


@dataclass
class SmallAws:
    """
    Instances, parameters, secrets and a bus.

    Attributes:
        instances: Fields of the RDS API's ``DBInstance`` by identifier.
        parameters: Name to ``(type, value)``.
        secrets: Name to text; *tags* has their tags.
        events: Every entry that was put on the bus, oldest first.
        faults: The error that each call of an action is answered with, such as
            ``{"PutEvents": AwsError("ThrottlingException")}``.
        calls: How often each action was called.
    """

    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, tuple[str, str]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    events: list[dict[str, str]] = field(default_factory=list)
    faults: dict[str, AwsError] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        aws = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, kind, answer = aws.answer(self.headers.get("X-Amz-Target"), body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing: the function's own log tells."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            # Eight functions at once, each with a client a service.
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """Say nothing of a client that was killed."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which AWS's clients find it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def forget(self) -> None:
        """Become empty."""
        with self._lock:
            for held in (
                self.instances, self.parameters, self.secrets, self.tags, self.faults, self.calls,
            ):  # fmt: skip
                held.clear()
            self.events.clear()

    def of_type(self, detail_type: str) -> list[dict[str, Any]]:
        """Return the detail of each event of *detail_type*."""
        return [
            json.loads(entry["Detail"])
            for entry in self.events
            if entry["DetailType"] == detail_type
        ]

    def answer(self, target: str | None, body: str) -> tuple[int, str, bytes]:
        """Answer one call: the HTTP status, the content type and the body."""
        if target is None:
            fields = {name: values[0] for name, values in parse_qs(body).items()}
            action = fields["Action"]
            try:
                found = self._do(action, fields)
            except AwsError as error:
                text = (
                    "<ErrorResponse><Error><Type>Sender</Type>"
                    f"<Code>{error.code}</Code><Message>of the test</Message>"
                    "</Error></ErrorResponse>"
                )
                return error.status, "text/xml", text.encode()
            text = f"<{action}Response><{action}Result>{found}</{action}Result></{action}Response>"
            return 200, "text/xml", text.encode()
        try:
            found = self._do(target.rpartition(".")[2], json.loads(body))
        except AwsError as error:
            found, status = {"__type": error.code, "message": "of the test"}, error.status
        else:
            status = 200
        return status, "application/x-amz-json-1.1", json.dumps(found).encode()

    def _do(self, action: str, fields: Mapping[str, Any]) -> Any:
        actions: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "DescribeDBInstances": self._describe,
            "GetParameters": self._get_parameters,
            "GetParametersByPath": self._get_by_path,
            "PutParameter": self._put_parameter,
            "GetSecretValue": self._get_secret,
            "DescribeSecret": self._describe_secret,
            "CreateSecret": self._create_secret,
            "PutSecretValue": self._put_secret,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "PutEvents": self._put_events,
        }
        with self._lock:
            self.calls[action] = self.calls.get(action, 0) + 1
            if action in self.faults:
                raise self.faults[action]
            return actions[action](fields)

    # RDS

    def _describe(self, fields: Mapping[str, Any]) -> str:
        name = fields.get("DBInstanceIdentifier")
        if name is None:
            found = list(self.instances.values())
        elif name in self.instances:
            found = [self.instances[name]]
        else:
            raise AwsError("DBInstanceNotFound", 404)
        return f"<DBInstances>{''.join(_xml('DBInstance', one) for one in found)}</DBInstances>"

    # Parameter Store

    def _entry(self, name: str) -> dict[str, str]:
        kind, value = self.parameters[name]
        return {"Name": name, "Type": kind, "Value": value}

    def _get_parameters(self, fields: Mapping[str, Any]) -> Any:
        names = fields["Names"]
        return {
            "Parameters": [self._entry(name) for name in names if name in self.parameters],
            "InvalidParameters": [name for name in names if name not in self.parameters],
        }

    def _get_by_path(self, fields: Mapping[str, Any]) -> Any:
        names = [name for name in self.parameters if name.startswith(fields["Path"])]
        return {"Parameters": [self._entry(name) for name in names]}

    def _put_parameter(self, fields: Mapping[str, Any]) -> Any:
        self.parameters[fields["Name"]] = (fields["Type"], fields["Value"])
        return {"Version": 1}

    # Secrets Manager

    def _name(self, fields: Mapping[str, Any]) -> str:
        name = str(fields["SecretId"]).rpartition(":secret:")[2]
        if name not in self.secrets:
            raise AwsError("ResourceNotFoundException")
        return name

    def _get_secret(self, fields: Mapping[str, Any]) -> Any:
        name = self._name(fields)
        if fields.get("VersionStage", "AWSCURRENT") != "AWSCURRENT":
            raise AwsError("ResourceNotFoundException")
        return {"Name": name, "ARN": secret_arn(name), "SecretString": self.secrets[name]}

    def _describe_secret(self, fields: Mapping[str, Any]) -> Any:
        name = self._name(fields)
        tags = [{"Key": key, "Value": value} for key, value in self.tags.get(name, {}).items()]
        stages = {"1": ["AWSCURRENT"]}
        return {
            "Name": name,
            "ARN": secret_arn(name),
            "Tags": tags,
            "VersionIdsToStages": stages,
        }

    def _create_secret(self, fields: Mapping[str, Any]) -> Any:
        name = fields["Name"]
        if name in self.secrets:
            raise AwsError("ResourceExistsException")
        self.secrets[name] = fields["SecretString"]
        self.tags[name] = {tag["Key"]: tag["Value"] for tag in fields.get("Tags", [])}
        return {"Name": name, "ARN": secret_arn(name)}

    def _put_secret(self, fields: Mapping[str, Any]) -> Any:
        name = self._name(fields)
        self.secrets[name] = fields["SecretString"]
        return {"Name": name, "ARN": secret_arn(name)}

    def _tag(self, fields: Mapping[str, Any]) -> Any:
        tags = self.tags.setdefault(self._name(fields), {})
        tags |= {tag["Key"]: tag["Value"] for tag in fields["Tags"]}
        return {}

    def _untag(self, fields: Mapping[str, Any]) -> Any:
        tags = self.tags.setdefault(self._name(fields), {})
        for key in fields["TagKeys"]:
            tags.pop(key, None)
        return {}

    # EventBridge

    def _put_events(self, fields: Mapping[str, Any]) -> Any:
        self.events += fields["Entries"]
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in fields["Entries"]]}


def secret_arn(name: str) -> str:
    """Return the ARN of the secret *name*."""
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}"


def _xml(name: str, value: Any) -> str:
    """Return *value* as the XML of AWS's query protocol."""
    match value:
        case None:
            return ""
        case dict():
            inner = "".join(_xml(key, one) for key, one in value.items())
        case list():
            inner = "".join(_xml("Tag", one) for one in value)
        case _:
            inner = escape(str(value))
    return f"<{name}>{inner}</{name}>"
