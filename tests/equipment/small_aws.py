"""
A small AWS on a loopback port: what the function calls, and no more, quick enough to be killed.

The real client library talks to it, so what is proven is the function as it is deployed. Its
state is plain dictionaries that a test reads and writes; it knows the stages of a secret, fails
where a test wants it to, and records each call. The whole local AWS (``infra/local``) is for
what it cannot show: rules, queues, retries.
"""

# ruff: noqa: N802  AWS names its operations

from __future__ import annotations

import json
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

ACCOUNT = "000000000000"
REGION = "us-east-1"
# Secrets Manager ends the ARN of each secret by a hyphen and six signs.
SUFFIX = "-AbCdEf"

# How IAM calls the service: by the prefix of X-Amz-Target, or by the action of a query.
_TARGETS = {
    "AmazonSSM": "ssm",
    "secretsmanager": "secretsmanager",
    "AWSEvents": "events",
    "AmazonSQS": "sqs",
}
_QUERIES = {
    "DescribeBlueGreenDeployments": "rds",
    "DescribeDBClusters": "rds",
    "DescribeDBInstances": "rds",
    "DescribeDBSubnetGroups": "rds",
    "DescribeGlobalClusters": "rds",
    "Publish": "sns",
}


class Fault(Exception):
    """An error that AWS answers with: its code, its message, and the HTTP status."""

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
class AwsCall:
    """One call that arrived: such as ``secretsmanager:GetSecretValue``, with its arguments."""

    action: str
    arguments: Mapping[str, Any]


Hook = Callable[[AwsCall], None]


def _nothing(_call: AwsCall) -> None:
    """Do nothing: the hook where a test has set none."""


@dataclass
class SmallAws:
    """
    One account in one region; an action is named as IAM names it.

    Attributes:
        instances: Fields of the RDS API's ``DBInstance`` by identifier.
        clusters: Fields of its ``DBCluster`` by identifier.
        secondaries: The ARNs of clusters that are secondaries of a global cluster.
        vpcs: The VPC of each subnet group.
        deployments: Fields of the RDS API's ``BlueGreenDeployment``.
        parameters: Name to ``(type, value)``.
        events: Every entry that was put on the bus, oldest first.
        put_off: The arguments of each message that was put into a queue.
        published: Subject and message of all that was sent to a topic.
        calls: Every call, oldest first.
        faults: The error that each call of an action is answered with, such as
            ``{"events:PutEvents": Fault("ThrottlingException")}``.
        before: Called with each call before it is carried out; may raise a fault.
        after: Called with each call when it is done, before its answer is sent.
    """

    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    secondaries: list[str] = field(default_factory=list)
    vpcs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, tuple[str, str]] = field(default_factory=dict)
    secrets: dict[str, StoredSecret] = field(default_factory=dict)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, str]] = field(default_factory=list)
    put_off: list[dict[str, Any]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    calls: list[AwsCall] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    before: Hook = _nothing
    after: Hook = _nothing
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._server = _Quiet(("127.0.0.1", 0), _requests_of(self))
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
                self.instances,
                self.clusters,
                self.secondaries,
                self.vpcs,
                self.parameters,
                self.secrets,
                self.faults,
                self.deployments,
            ):
                held.clear()
            for told in (self.events, self.put_off, self.published, self.calls):
                told.clear()
            self.before = self.after = _nothing

    def keep(self, name: str, fields: Mapping[str, object] | str, **tags: str) -> StoredSecret:
        """Keep a secret that somebody else has made."""
        self.secrets[name] = kept = StoredSecret(tags=dict(tags))
        kept.put(fields if isinstance(fields, str) else json.dumps(fields))
        return kept

    def called(self, action: str) -> list[Mapping[str, Any]]:
        """Return the arguments of each call of *action*."""
        return [call.arguments for call in self.calls if call.action == action]

    def of_type(self, detail_type: str) -> list[dict[str, Any]]:
        """Return the detail of each event of *detail_type*."""
        return [
            json.loads(entry["Detail"])
            for entry in self.events
            if entry["DetailType"] == detail_type
        ]

    def answer(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """
        Carry out one call.

        Raises:
            Fault: What AWS would answer, or what the test wants it to.
        """
        call = AwsCall(action, arguments)
        with self._lock:
            self.calls.append(call)
        # Outside the lock: a hook may kill a run, and wait until that is gone.
        self.before(call)
        if action in self.faults:
            raise self.faults[action]
        try:
            with self._lock:
                return getattr(self, "_" + action.rpartition(":")[2])(arguments)
        finally:
            self.after(call)

    # RDS

    def _DescribeDBInstances(self, asked: Mapping[str, Any]) -> str:
        name = asked.get("DBInstanceIdentifier")
        if name is not None and name not in self.instances:
            raise Fault("DBInstanceNotFound", status=404)
        found = [self.instances[name]] if name else list(self.instances.values())
        return f"<DBInstances>{''.join(_xml('DBInstance', one) for one in found)}</DBInstances>"

    def _DescribeDBClusters(self, asked: Mapping[str, Any]) -> str:
        name = asked.get("DBClusterIdentifier")
        if name is not None and name not in self.clusters:
            raise Fault("DBClusterNotFoundFault", status=404)
        found = [self.clusters[name]] if name else list(self.clusters.values())
        return f"<DBClusters>{''.join(_xml('DBCluster', one) for one in found)}</DBClusters>"

    def _DescribeDBSubnetGroups(self, asked: Mapping[str, Any]) -> str:
        group = {"VpcId": self.vpcs[asked["DBSubnetGroupName"]]}
        return f"<DBSubnetGroups>{_xml('DBSubnetGroup', group)}</DBSubnetGroups>"

    def _DescribeGlobalClusters(self, _asked: Mapping[str, Any]) -> str:
        members = "".join(
            _xml("GlobalClusterMember", {"DBClusterArn": one, "IsWriter": "false"})
            for one in self.secondaries
        )
        one = f"<GlobalClusterMembers>{members}</GlobalClusterMembers>"
        return f"<GlobalClusters><GlobalClusterMember>{one}</GlobalClusterMember></GlobalClusters>"

    def _DescribeBlueGreenDeployments(self, _asked: Mapping[str, Any]) -> str:
        found = "".join(_xml("member", one) for one in self.deployments)
        return f"<BlueGreenDeployments>{found}</BlueGreenDeployments>"

    # Parameter Store

    def _GetParameters(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        names = asked["Names"]
        return {
            "Parameters": [self._parameter(name) for name in names if name in self.parameters],
            "InvalidParameters": [name for name in names if name not in self.parameters],
        }

    def _GetParametersByPath(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in self.parameters if name.startswith(asked["Path"])]
        return {"Parameters": [self._parameter(name) for name in names]}

    def _PutParameter(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.parameters[asked["Name"]] = (asked["Type"], asked["Value"])
        return {"Version": 1}

    def _parameter(self, name: str) -> dict[str, Any]:
        kind, value = self.parameters[name]
        now = datetime.now(UTC).timestamp()
        return {"Name": name, "Type": kind, "Value": value, "LastModifiedDate": now}

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
        return {"Name": name, "ARN": secret_arn(name), "VersionId": version, **value}

    def _DescribeSecret(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name, secret = self._secret(asked, may_be_going=True)
        stages: dict[str, list[str]] = {}
        for stage, version in secret.stages.items():
            stages.setdefault(version, []).append(stage)
        return {
            "Name": name,
            "ARN": secret_arn(name),
            "Tags": [{"Key": key, "Value": value} for key, value in secret.tags.items()],
            "VersionIdsToStages": stages,
            **({"DeletedDate": datetime.now(UTC).timestamp()} if secret.is_going else {}),
        }

    def _ListSecrets(self, _asked: Mapping[str, Any]) -> dict[str, Any]:
        found = [self._DescribeSecret({"SecretId": name}) for name in self.secrets]
        return {"SecretList": found}

    def _CreateSecret(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = asked["Name"]
        if name in self.secrets:
            going = self.secrets[name].is_going
            raise Fault("InvalidRequestException" if going else "ResourceExistsException")
        tags = {tag["Key"]: tag["Value"] for tag in asked.get("Tags", [])}
        self.keep(name, asked["SecretString"], **tags)
        return {"Name": name, "ARN": secret_arn(name)}

    def _PutSecretValue(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name, secret = self._secret(asked)
        (stage,) = asked.get("VersionStages", ["AWSCURRENT"])
        version = secret.put(asked["SecretString"], stage, asked.get("ClientRequestToken"))
        return {"Name": name, "ARN": secret_arn(name), "VersionId": version}

    def _TagResource(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        _, secret = self._secret(asked)
        secret.tags |= {tag["Key"]: tag["Value"] for tag in asked["Tags"]}
        return {}

    def _UntagResource(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        _, secret = self._secret(asked)
        for key in asked["TagKeys"]:
            secret.tags.pop(key, None)
        return {}

    def _secret(
        self, asked: Mapping[str, Any], *, may_be_going: bool = False
    ) -> tuple[str, StoredSecret]:
        name = str(asked["SecretId"])
        if name.startswith("arn:"):
            name = name.rpartition(":secret:")[2].removesuffix(SUFFIX)
        if name not in self.secrets:
            raise Fault("ResourceNotFoundException")
        if self.secrets[name].is_going and not may_be_going:
            raise Fault("InvalidRequestException", "it was marked for deletion")
        return name, self.secrets[name]

    # EventBridge, SQS and SNS

    def _PutEvents(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.events += asked["Entries"]
        entries = [{"EventId": str(uuid.uuid4())} for _ in asked["Entries"]]
        return {"FailedEntryCount": 0, "Entries": entries}

    def _SendMessage(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.put_off.append(dict(asked))
        digests = ("MD5OfMessageBody", "MD5OfMessageAttributes")
        return {"MessageId": str(uuid.uuid4()), **dict.fromkeys(digests, "")}

    def _Publish(self, asked: Mapping[str, Any]) -> str:
        self.published.append(f"{asked['Subject']}\n{asked['Message']}")
        return "<MessageId>1</MessageId>"


def arn(service: str, resource: str) -> str:
    """Return the ARN of a *resource* in this account: such as ``db:orders`` of ``rds``."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def secret_arn(name: str) -> str:
    """Return the ARN of the secret *name*."""
    return arn("secretsmanager", f"secret:{name}{SUFFIX}")


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


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    # Eight functions at once, each with a client a service.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed, and all of a call that we do not know."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _requests_of(aws: SmallAws) -> type[BaseHTTPRequestHandler]:
    """Return what answers the HTTP requests to *aws*: JSON and query protocol."""

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Sent at once: for the body behind the head, the other end would wait 40 ms.
        wbufsize = -1

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            read = self.rfile.read(length)
            if len(read) < length:
                # Whoever asked was killed in the middle of it.
                return
            body = read.decode()
            target = self.headers.get("X-Amz-Target")
            status, kind, text = _by_json(aws, target, body) if target else _by_query(aws, body)
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing: the calls are recorded."""

    return Requests


def _by_json(aws: SmallAws, target: str, body: str) -> tuple[int, str, str]:
    """Answer a call of the JSON protocol: the HTTP status, the content type and the body."""
    service, _, operation = target.partition(".")
    try:
        status, found = 200, aws.answer(f"{_TARGETS[service]}:{operation}", json.loads(body))
    except Fault as fault:
        status, found = fault.status, {"__type": fault.code, "message": str(fault)}
    return status, "application/x-amz-json-1.1", json.dumps(found)


def _by_query(aws: SmallAws, body: str) -> tuple[int, str, str]:
    """Answer a call of the query protocol."""
    asked = dict(parse_qsl(body))
    operation = asked["Action"]
    try:
        found = aws.answer(f"{_QUERIES[operation]}:{operation}", asked)
    except Fault as fault:
        return fault.status, "text/xml", (
            "<ErrorResponse><Error><Type>Sender</Type>"
            f"<Code>{fault.code}</Code><Message>{escape(str(fault))}</Message>"
            "</Error></ErrorResponse>"
        )  # fmt: skip
    return 200, "text/xml", (
        f"<{operation}Response><{operation}Result>{found}</{operation}Result></{operation}Response>"
    )  # fmt: skip
