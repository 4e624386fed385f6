"""
A small AWS on a port: the calls that the function makes, answered as AWS does, and recorded.

Unlike LocalStack it starts in no time, fails where a test wants it to, and knows the stages of
a secret, deletion dates and pagination. Unlike a fake in Python it is reached through boto3.
"""

# ruff: noqa: N802  AWS names its operations

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

ACCOUNT = "000000000000"
ARN = f"arn:aws:{{}}:us-east-1:{ACCOUNT}:{{}}"


class Fault(Exception):
    """An error as AWS answers it."""

    def __init__(self, code: str, message: str = "said the small AWS", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass
class StoredSecret:
    """A secret: its values by version, the version of each stage, its tags."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    stages: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    is_binary: bool = False
    is_going: bool = False

    def text(self, stage: str = "AWSCURRENT") -> str:
        """Return the value at *stage*."""
        return self.values[self.stages[stage]]

    def put(self, text: str, stage: str = "AWSCURRENT", version: str | None = None) -> str:
        """Store *text* as the version of *stage*."""
        version = version or str(uuid.uuid4())
        self.values[version] = text
        if stage == "AWSCURRENT" and stage in self.stages:
            self.stages["AWSPREVIOUS"] = self.stages[stage]
        self.stages[stage] = version
        return version


@dataclass(frozen=True)
class Call:
    """One call that arrived: such as ``secretsmanager:GetSecretValue``, with its arguments."""

    action: str
    arguments: Mapping[str, Any]


@dataclass
class SmallAws:
    """
    One account in one region.

    Attributes:
        faults: What an action answers instead; by its name.
        before: Called with each call before it is carried out.
        after: Called with each call when it is done, before its answer is sent.
    """

    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, StoredSecret] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    before: Callable[[Call], None] = lambda _call: None
    after: Callable[[Call], None] = lambda _call: None

    def __post_init__(self) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _requests_of(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """Carry out one call."""
        call = Call(action, arguments)
        self.calls.append(call)
        self.before(call)
        if action in self.faults:
            raise self.faults[action]
        try:
            return getattr(self, "_" + action.rpartition(":")[2])(arguments)
        finally:
            self.after(call)

    def keep(self, name: str, fields: Mapping[str, object] | str, **tags: str) -> StoredSecret:
        """Keep a secret that somebody else has made."""
        self.secrets[name] = kept = StoredSecret(tags=dict(tags))
        kept.put(fields if isinstance(fields, str) else json.dumps(fields))
        return kept

    # RDS

    def _DescribeDBInstances(self, asked: Mapping[str, Any]) -> str:
        name = asked.get("DBInstanceIdentifier")
        if name is not None and name not in self.instances:
            raise Fault("DBInstanceNotFound", status=404)
        found = [self.instances[name]] if name else list(self.instances.values())
        return "".join(f"<DBInstance>{_xml(one)}</DBInstance>" for one in found)

    # Systems Manager

    def _GetParameters(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "Parameters": [
                self._parameter(name) for name in asked["Names"] if name in self.parameters
            ]
        }

    def _GetParametersByPath(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in self.parameters if name.startswith(asked["Path"])]
        return {"Parameters": [self._parameter(name) for name in names]}

    def _PutParameter(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.parameters[asked["Name"]] = asked["Value"]
        return {"Version": 1}

    def _parameter(self, name: str) -> dict[str, Any]:
        now = datetime.now(UTC).timestamp()
        value = self.parameters[name]
        return {"Name": name, "Value": value, "Type": "String", "LastModifiedDate": now}

    # Secrets Manager

    def _GetSecretValue(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name, secret = self._secret(asked)
        stage = asked.get("VersionStage", "AWSCURRENT")
        version = asked.get("VersionId") or secret.stages.get(stage)
        if version is None or version not in secret.values:
            raise Fault("ResourceNotFoundException")
        value = (
            {"SecretBinary": "AAEC"}
            if secret.is_binary
            else {"SecretString": secret.values[version]}
        )
        return {"Name": name, "ARN": _secret_arn(name), "VersionId": version, **value}

    def _DescribeSecret(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name, secret = self._secret(asked, may_be_going=True)
        stages: dict[str, list[str]] = {}
        for stage, version in secret.stages.items():
            stages.setdefault(version, []).append(stage)
        going = {"DeletedDate": datetime.now(UTC).timestamp()} if secret.is_going else {}
        tags = [{"Key": key, "Value": value} for key, value in secret.tags.items()]
        return {"Name": name, "Tags": tags, "VersionIdsToStages": stages, **going}

    def _CreateSecret(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = asked["Name"]
        if name in self.secrets:
            going = self.secrets[name].is_going
            raise Fault("InvalidRequestException" if going else "ResourceExistsException")
        tags = {tag["Key"]: tag["Value"] for tag in asked.get("Tags", [])}
        self.keep(name, asked["SecretString"], **tags)
        return {"Name": name, "ARN": _secret_arn(name)}

    def _PutSecretValue(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name, secret = self._secret(asked)
        (stage,) = asked.get("VersionStages", ["AWSCURRENT"])
        version = secret.put(asked["SecretString"], stage, asked.get("ClientRequestToken"))
        return {"Name": name, "VersionId": version}

    def _UpdateSecretVersionStage(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name, secret = self._secret(asked)
        secret.stages["AWSPREVIOUS"] = secret.stages["AWSCURRENT"]
        secret.stages[asked["VersionStage"]] = asked["MoveToVersionId"]
        return {"Name": name}

    def _TagResource(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        _, secret = self._secret(asked)
        secret.tags |= {tag["Key"]: tag["Value"] for tag in asked["Tags"]}
        return {}

    def _UntagResource(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        _, secret = self._secret(asked)
        for key in asked["TagKeys"]:
            secret.tags.pop(key, None)
        return {}

    def _GetRandomPassword(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"RandomPassword": "next-" + uuid.uuid4().hex[: asked.get("PasswordLength", 32)]}

    def _secret(
        self, asked: Mapping[str, Any], *, may_be_going: bool = False
    ) -> tuple[str, StoredSecret]:
        name = asked["SecretId"]
        if name.startswith("arn:"):
            name = name.rpartition(":secret:")[2][: -len("-AbCdEf")]
        if name not in self.secrets:
            raise Fault("ResourceNotFoundException")
        if self.secrets[name].is_going and not may_be_going:
            raise Fault("InvalidRequestException", "it was marked for deletion")
        return name, self.secrets[name]

    # EventBridge and SNS

    def _PutEvents(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.events += asked["Entries"]
        entries = [{"EventId": str(uuid.uuid4())} for _ in asked["Entries"]]
        return {"FailedEntryCount": 0, "Entries": entries}

    def _Publish(self, asked: Mapping[str, Any]) -> str:
        self.published.append(f"{asked['Subject']}\n{asked['Message']}")
        return "<MessageId>1</MessageId>"


def _secret_arn(name: str) -> str:
    return ARN.format("secretsmanager", f"secret:{name}-AbCdEf")


def _xml(value: Any) -> str:
    """Return the XML of RDS's query protocol for what a test wrote as a dictionary."""
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(part)}</{name}>" for name, part in value.items())
    if isinstance(value, list):
        return "".join(f"<Tag>{_xml(part)}</Tag>" for part in value)
    return escape(str(value))


# The prefix of X-Amz-Target, and how IAM calls the service.
_TARGETS = {"AmazonSSM": "ssm", "secretsmanager": "secretsmanager", "AWSEvents": "events"}
_QUERIES = {"DescribeDBInstances": "rds", "Publish": "sns"}


def _requests_of(aws: SmallAws) -> type[BaseHTTPRequestHandler]:
    """Return what answers the HTTP requests to *aws*: JSON and query protocol."""

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: the calls are recorded."""

        def do_POST(self) -> None:
            """Answer one call."""
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            target = self.headers.get("X-Amz-Target")
            try:
                if target:
                    service, _, operation = target.partition(".")
                    done = aws.answer(f"{_TARGETS[service]}:{operation}", json.loads(body))
                    self._send(200, json.dumps(done))
                else:
                    asked = dict(parse_qsl(body))
                    operation = asked["Action"]
                    done = aws.answer(f"{_QUERIES[operation]}:{operation}", asked)
                    if operation == "DescribeDBInstances":
                        done = f"<DBInstances>{done}</DBInstances>"
                    self._send(
                        200,
                        f"<{operation}Response><{operation}Result>{done}</{operation}Result>"
                        f"</{operation}Response>",
                    )
            except Fault as fault:
                if target:
                    text = json.dumps({"__type": fault.code, "message": str(fault)})
                else:
                    text = (
                        f"<ErrorResponse><Error><Code>{fault.code}</Code>"
                        f"<Message>{fault}</Message></Error></ErrorResponse>"
                    )
                self._send(fault.status, text)

        def _send(self, status: int, text: str) -> None:
            data = text.encode()
            # The caller may have been killed meanwhile: that is what some tests are about.
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True

    return Requests
