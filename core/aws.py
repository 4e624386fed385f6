"""The door to AWS: instances, parameters, secrets and events. Nothing is decided here."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
    SSLError,
)
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError

from core.budget import Budget, pauses
from core.decisions import observed
from core.decisions.refusals import is_busy, meaning_of
from core.errors import (
    AccessDenied,
    InvalidField,
    MigrationError,
    NoSuchInstance,
    NotFound,
    NotReady,
    NoValue,
    OutOfReach,
    Rejected,
    RunFailed,
)
from core.model import (
    FLEET,
    Declared,
    Kind,
    ManagedDatabase,
    ManagedSecret,
    ObservedState,
    Parameters,
    Secret,
    TargetSource,
)
from core.settings import Settings, observed_parameter, target_parameter

logger = logging.getLogger(__name__)

T = TypeVar("T")

PUT_EVENTS_BATCH = 10

# All that we ask for anything.
SERVICES = ("events", "rds", "secretsmanager", "sns", "sqs", "ssm")

# How often a call is tried where no budget says how long.
TRIES_WITHOUT_BUDGET = 5

# How often where nothing answers at all: for less than a minute, and then a person has to know.
TRIES_OUT_OF_REACH = 10

# One try a call: we try again ourselves, as long as the run may still spend time.
_CLIENT_CONFIG = Config(
    connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 1}
)


class _Models(Loader):  # type: ignore[misc]  # botocore has no types
    """The models of the services that we use; botocore looks through those of all four hundred."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore's
        return list(SERVICES)


def _session() -> Any:
    """Return botocore's session, not boto3's: that one also imports what sends files to S3."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _Models())
    return session


class Aws:
    """
    AWS as one account and region show it. Clients are made when first needed, and kept.

    Every method raises AccessDenied, NotFound, NotReady, Rejected or RunFailed where AWS
    refuses, and the message names the call and the thing. What is busy is asked again.
    """

    def __init__(self, settings: Settings, session: Any = None) -> None:
        self._session = session or _session()
        self._settings = settings
        self._prefix = settings.prefix
        self._clients: dict[str, Any] = {}
        self._budget: Budget | None = None
        self._vpcs: dict[str, str | None] = {}
        # At DEBUG it logs whole requests and answers, and so every secret that we read.
        logging.getLogger("botocore").setLevel(logging.INFO)

    def within(self, budget: Budget) -> Aws:
        """Return the same AWS, which asks again what is busy until *budget* ends."""
        limited = copy(self)
        limited._budget = budget  # noqa: SLF001 - it is one of ours
        return limited

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.create_client(service, config=_CLIENT_CONFIG)
        return self._clients[service]

    def _call(
        self,
        action: str,
        thing: str,
        call: Callable[[], T],
        missing: type[MigrationError] = RunFailed,
    ) -> T:
        """
        Return what *call* returns, asking again while AWS is busy and time is left.

        *action* is called for *thing*; *missing* is what it means that there is no such thing.
        """
        for tried, pause in enumerate(pauses(0.2, 5.0), start=1):
            try:
                with _calling(action, thing, missing):
                    return call()
            except NotReady as error:
                is_in_reach = not isinstance(error, OutOfReach) or tried < TRIES_OUT_OF_REACH
                if not (is_in_reach and self._may_ask_again(tried, pause)):
                    raise
                logger.info("asking again in %.1f s: %s", pause, error)
                self._pause(pause)
        raise AssertionError("pauses never end")

    def _may_ask_again(self, tried: int, pause: float) -> bool:
        if self._budget is None:
            return tried < TRIES_WITHOUT_BUDGET
        return self._budget.left() > pause

    def _pause(self, seconds: float) -> None:
        if self._budget is None:
            time.sleep(seconds)
        else:
            self._budget.sleep(seconds)

    def _pages(
        self, action: str, thing: str, ask: Callable[..., dict[str, Any]], token: tuple[str, str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the pages that *ask* returns; *token* names the field to send and the one sent."""
        given, sent = token
        more: dict[str, Any] = {}
        while True:
            page = self._call(action, thing, lambda more=more: ask(**more))  # type: ignore[misc]
            yield page
            if not page.get(sent):
                return
            more = {given: page[sent]}

    def _all(
        self, action: str, field: str, ask: Callable[..., dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield each of *field* that a list of RDS has, page by page."""
        for page in self._pages(action, f"all {field}", ask, ("Marker", "Marker")):
            yield from page[field]

    # Instances

    def instance(self, identifier: str) -> ManagedDatabase:
        """
        Return the instance *identifier*.

        Raises:
            NoSuchInstance: RDS knows none of this name.
        """
        found = self._call(
            "rds:DescribeDBInstances",
            f"instance {identifier}",
            lambda: self._client("rds").describe_db_instances(DBInstanceIdentifier=identifier),
            NoSuchInstance,
        )
        return _instance(found["DBInstances"][0])

    def instances(self) -> Iterator[ManagedDatabase]:
        """Yield every instance of the account and region, page by page."""
        every = self._all(
            "rds:DescribeDBInstances",
            "DBInstances",
            lambda **more: self._client("rds").describe_db_instances(**more),
        )
        yield from map(_instance, every)

    def cluster(self, identifier: str) -> ManagedDatabase:
        """
        Return the cluster *identifier*.

        Raises:
            NoSuchInstance: RDS knows none of this name.
        """
        found = self._call(
            "rds:DescribeDBClusters",
            f"cluster {identifier}",
            lambda: self._client("rds").describe_db_clusters(DBClusterIdentifier=identifier),
            NoSuchInstance,
        )
        return self._cluster(found["DBClusters"][0])

    def clusters(self) -> Iterator[ManagedDatabase]:
        """Yield every cluster of the account and region, page by page."""
        every = self._all(
            "rds:DescribeDBClusters",
            "DBClusters",
            lambda **more: self._client("rds").describe_db_clusters(**more),
        )
        yield from map(self._cluster, every)

    def _cluster(self, found: Mapping[str, Any]) -> ManagedDatabase:
        """Return a cluster with its VPC, which only its subnet group tells."""
        group = found.get("DBSubnetGroup")
        # Asked for where it counts only; it never changes.
        if not group or not self._settings.vpc_id:
            return _cluster(found)
        if group not in self._vpcs:
            answer = self._call(
                "rds:DescribeDBSubnetGroups",
                f"subnet group {group}",
                lambda: self._client("rds").describe_db_subnet_groups(DBSubnetGroupName=group),
            )
            self._vpcs[group] = answer["DBSubnetGroups"][0].get("VpcId")
        return _cluster(found)._replace(vpc_id=self._vpcs[group])

    def read_only_clusters(self) -> frozenset[str]:
        """
        Return the ARN of every cluster that is a secondary of a global cluster.

        They answer by their own endpoints, and take no writes (Aurora User Guide, "Using Amazon
        Aurora Global Database"); ``DescribeDBClusters`` does not tell.
        """
        every = self._all(
            "rds:DescribeGlobalClusters",
            "GlobalClusters",
            lambda **more: self._client("rds").describe_global_clusters(**more),
        )
        return frozenset(
            member["DBClusterArn"]
            for one in every
            for member in one.get("GlobalClusterMembers", [])
            if not member.get("IsWriter")
        )

    def in_deployments(self) -> frozenset[str]:
        """
        Return the ARN of every instance and cluster that is a side of a blue/green deployment.

        One that was switched over has ended, whether it is deleted or not (RDS API,
        BlueGreenDeployment, "Status").
        """
        every = self._all(
            "rds:DescribeBlueGreenDeployments",
            "BlueGreenDeployments",
            lambda **more: self._client("rds").describe_blue_green_deployments(**more),
        )
        return frozenset(
            side
            for deployment in every
            if deployment.get("Status") != "SWITCHOVER_COMPLETED"
            for side in _sides(deployment)
        )

    # Parameters

    def parameters(self, instance: str) -> Parameters:
        """Read the declared target (the instance's, else the fleet's) and the observed state."""
        own = target_parameter(self._prefix, instance)
        fleet = target_parameter(self._prefix, FLEET)
        state = observed_parameter(self._prefix, instance)
        found = self._call(
            "ssm:GetParameters",
            f"{own}, {fleet}, {state}",
            lambda: self._client("ssm").get_parameters(Names=[own, fleet, state]),
        )
        values = {entry["Name"]: entry for entry in found["Parameters"]}
        return _parameters(_declared(values, own, fleet), values.get(state))

    def all_parameters(self) -> dict[str, Parameters]:
        """
        Read the parameters of every instance under the prefix, and the fleet's as ``_fleet``.

        An instance without any parameter is not in the answer, and follows the fleet.
        """
        values: dict[str, dict[str, Any]] = {}
        path = f"/{self._prefix}/"
        for page in self._pages(
            "ssm:GetParametersByPath",
            path,
            lambda **more: self._client("ssm").get_parameters_by_path(
                Path=path, Recursive=True, **more
            ),
            ("NextToken", "NextToken"),
        ):
            values.update({entry["Name"]: entry for entry in page["Parameters"]})
        names = {name.split("/")[2] for name in values if name.count("/") == 3} | {FLEET}
        fleet = target_parameter(self._prefix, FLEET)
        return {
            name: _parameters(
                _declared(values, target_parameter(self._prefix, name), fleet),
                values.get(observed_parameter(self._prefix, name)),
            )
            for name in names
        }

    def write_observed(self, instance: str, state: ObservedState) -> None:
        """Keep *state* in the instance's parameter."""
        name = observed_parameter(self._prefix, instance)
        self._call(
            "ssm:PutParameter",
            name,
            lambda: self._client("ssm").put_parameter(
                Name=name, Type="String", Overwrite=True, Value=observed.written(state)
            ),
        )

    # Secrets

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret:
        """
        Return the secret *name* (a name or an ARN) at *stage*.

        Raises:
            InvalidField: It is binary.
        """
        found = self._call(
            "secretsmanager:GetSecretValue",
            f"secret {name}",
            lambda: self._client("secretsmanager").get_secret_value(
                SecretId=name, VersionStage=stage
            ),
            NotFound,
        )
        if "SecretString" not in found:
            raise InvalidField(f"secret {name}", "is binary", "store JSON as its SecretString")
        return Secret(found["Name"], found["ARN"], found["SecretString"])

    def secret_tags(self, name: str) -> dict[str, str]:
        """
        Return the tags of the secret *name*.

        Raises:
            NoValue: It has no current value, as a template leaves a secret for later.
            Rejected: It is scheduled for deletion.
        """
        found = self._call(
            "secretsmanager:DescribeSecret",
            f"secret {name}",
            lambda: self._client("secretsmanager").describe_secret(SecretId=name),
            NotFound,
        )
        if "DeletedDate" in found:
            raise Rejected(f"secret {name} is scheduled for deletion: restore it, then try again")
        tags = _tags_of(found)
        if not any("AWSCURRENT" in one for one in found.get("VersionIdsToStages", {}).values()):
            raise NoValue(f"secret {name} has no value: store one", tags)
        return tags

    def login_secrets(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield name and tags of each secret under the prefix that was set on a database."""
        name, tag = f"{self._prefix}/", f"{self._prefix}:dbi-resource-id"
        wanted = [{"Key": "name", "Values": [name]}, {"Key": "tag-key", "Values": [tag]}]
        for page in self._pages(
            "secretsmanager:ListSecrets",
            f"{name}*",
            lambda **more: self._client("secretsmanager").list_secrets(
                MaxResults=100, Filters=wanted, **more
            ),
            ("NextToken", "NextToken"),
        ):
            for found in page["SecretList"]:
                yield found["Name"], _tags_of(found)

    def create_secret(
        self, name: str, text: str, *, description: str, tags: Mapping[str, str]
    ) -> None:
        """Make the secret *name* that holds *text*, under the stack's key if it has one."""
        key = self._settings.secret_kms_key_id
        # The same for each try: where only the answer was lost, the next one finds it done
        # (Secrets Manager API, CreateSecret, "ClientRequestToken").
        token = str(uuid.uuid4())
        self._call(
            "secretsmanager:CreateSecret",
            f"secret {name}",
            lambda: self._client("secretsmanager").create_secret(
                Name=name,
                ClientRequestToken=token,
                Description=description,
                SecretString=text,
                Tags=_tag_list(tags),
                **({"KmsKeyId": key} if key else {}),
            ),
        )

    def put_secret(self, name: str, text: str) -> None:
        """Make *text* the current value of the secret *name*."""
        token = str(uuid.uuid4())
        self._call(
            "secretsmanager:PutSecretValue",
            f"secret {name}",
            lambda: self._client("secretsmanager").put_secret_value(
                SecretId=name, ClientRequestToken=token, SecretString=text
            ),
            NotFound,
        )

    def tag_secret(self, name: str, tags: Mapping[str, str]) -> None:
        """Put *tags* on the secret *name*."""
        self._call(
            "secretsmanager:TagResource",
            f"secret {name}",
            lambda: self._client("secretsmanager").tag_resource(
                SecretId=name, Tags=_tag_list(tags)
            ),
            NotFound,
        )

    def untag_secret(self, name: str, tag: str) -> None:
        """Take *tag* from the secret *name*, if it has it."""
        self._call(
            "secretsmanager:UntagResource",
            f"secret {name}",
            lambda: self._client("secretsmanager").untag_resource(SecretId=name, TagKeys=[tag]),
            NotFound,
        )

    def auth_token(self, host: str, port: int, user: str) -> str:
        """Return a token for IAM database authentication; signed here, valid 15 minutes."""
        with _calling("rds-db:connect", f"{user} at {host}"):
            return str(
                self._client("rds").generate_db_auth_token(
                    DBHostname=host, Port=port, DBUsername=user
                )
            )

    # Events

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


@contextmanager
def _calling(action: str, thing: str, missing: type[MigrationError] = RunFailed) -> Iterator[None]:
    """Translate what botocore raises while *action* is called for *thing*."""
    try:
        yield
    except ClientError as error:
        told = error.response["Error"]
        raise meaning_of(
            str(told.get("Code", "")),
            str(told.get("Message", "")),
            error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
            action=action,
            thing=thing,
            missing=missing,
        ) from error
    except ParamValidationError as error:
        raise Rejected(f"{thing} is not a valid name for {action}") from error
    except NoCredentialsError as error:
        raise AccessDenied(f"{action}: there are no AWS credentials") from error
    except SSLError as error:
        raise OutOfReach(
            f"{action}: TLS with {error.kwargs.get('endpoint_url')} failed: check its name and "
            "its certificate"
        ) from error
    except (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError) as error:
        raise OutOfReach(
            f"{action} cannot be reached: in a VPC without NAT, add the interface endpoint"
        ) from error
    except (HTTPClientError, ResponseParserError) as error:
        # A connection that was cut, or an answer that never came or was half of one.
        raise NotReady(f"{action} did not answer ({type(error).__name__}): try again") from error
    except BotoCoreError as error:
        raise RunFailed(f"{action} for {thing} failed: {type(error).__name__}") from error


def _tags_of(secret: Mapping[str, Any]) -> dict[str, str]:
    return _by_key(secret.get("Tags", []))


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _instance(found: Mapping[str, Any]) -> ManagedDatabase:
    """Return an instance from a ``DBInstance`` of the RDS API."""
    endpoint = found.get("Endpoint") or {}
    return ManagedDatabase(
        identifier=found["DBInstanceIdentifier"],
        arn=found.get("DBInstanceArn", ""),
        resource_id=found.get("DbiResourceId", ""),
        engine=found.get("Engine", ""),
        status=found.get("DBInstanceStatus", ""),
        engine_version=found.get("EngineVersion", ""),
        host=endpoint.get("Address"),
        port=endpoint.get("Port"),
        takes_tokens=found.get("IAMDatabaseAuthenticationEnabled", False),
        db_name=found.get("DBName"),
        master_username=found.get("MasterUsername"),
        managed_secret=_managed_secret(found),
        cluster=found.get("DBClusterIdentifier"),
        replica_of=(
            found.get("ReadReplicaSourceDBInstanceIdentifier")
            or found.get("ReadReplicaSourceDBClusterIdentifier")
        ),
        vpc_id=(found.get("DBSubnetGroup") or {}).get("VpcId"),
        security_groups=_security_groups(found),
        created_at=found.get("InstanceCreateTime"),
        tags=_tags(found),
    )


def _cluster(found: Mapping[str, Any]) -> ManagedDatabase:
    """Return a cluster from a ``DBCluster`` of the RDS API."""
    capacity = found.get("ServerlessV2ScalingConfiguration") or {}
    readers = found.get("ReaderEndpoint")
    members = {
        member["DBInstanceIdentifier"]: member.get("IsClusterWriter", False)
        for member in found.get("DBClusterMembers", [])
    }
    return ManagedDatabase(
        kind=Kind.CLUSTER,
        identifier=found["DBClusterIdentifier"],
        arn=found.get("DBClusterArn", ""),
        resource_id=found.get("DbClusterResourceId", ""),
        engine=found.get("Engine", ""),
        status=found.get("Status", ""),
        engine_version=found.get("EngineVersion", ""),
        host=found.get("Endpoint"),
        port=found.get("Port"),
        other_hosts=(*([readers] if readers else []), *found.get("CustomEndpoints", [])),
        takes_tokens=found.get("IAMDatabaseAuthenticationEnabled", False),
        db_name=found.get("DatabaseName"),
        master_username=found.get("MasterUsername"),
        managed_secret=_managed_secret(found),
        replica_of=found.get("ReplicationSourceIdentifier") or None,
        security_groups=_security_groups(found),
        created_at=found.get("ClusterCreateTime"),
        tags=_tags(found),
        members=tuple(members),
        writer=next((name for name, writes in members.items() if writes), None),
        sleeps=capacity.get("MinCapacity") == 0,
        limit=_limit(found),
    )


def _limit(found: Mapping[str, Any]) -> str | None:
    """
    Return the reason code of a ``DBCluster`` whose shape day2 does not serve.

    RDS API, DBCluster, "EngineMode", "ClusterScalabilityType" and "VPCNetworkingEnabled".
    """
    if found.get("EngineMode") == "serverless":
        return "serverless-v1"
    if found.get("ClusterScalabilityType") == "limitless":
        return "limitless"
    return "express" if found.get("VPCNetworkingEnabled") is False else None


def _managed_secret(found: Mapping[str, Any]) -> ManagedSecret | None:
    secret = found.get("MasterUserSecret") or {}
    if not secret.get("SecretArn"):
        return None
    return ManagedSecret(secret["SecretArn"], secret.get("SecretStatus", "active"))


def _security_groups(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(group["VpcSecurityGroupId"] for group in found.get("VpcSecurityGroups", []))


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    return _by_key(found.get("TagList", []))


def _by_key(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return *tags* by their keys; a tag may be without a value (RDS API, "Tag")."""
    return {tag["Key"]: tag.get("Value", "") for tag in tags}


def _sides(deployment: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ARN of each instance and cluster in a ``BlueGreenDeployment``, replicas too."""
    members = deployment.get("SwitchoverDetails", [])
    for fields, names in (
        ((deployment,), ("Source", "Target")),
        (members, ("SourceMember", "TargetMember")),
    ):
        yield from (one[name] for one in fields for name in names if one.get(name))


def _declared(values: Mapping[str, Mapping[str, Any]], own: str, fleet: str) -> Declared | None:
    """Return the declared target: the instance's own parameter, else the fleet's."""
    for name in (own, fleet):
        if name in values:
            source = TargetSource.FLEET if name == fleet else TargetSource.PARAMETER
            entry = values[name]
            return Declared(
                entry["Value"], source, name, entry["Type"], entry.get("LastModifiedDate")
            )
    return None


def _parameters(declared: Declared | None, state: Mapping[str, Any] | None) -> Parameters:
    """Return *declared* and the observed *state*, whatever somebody wrote there."""
    if state is None:
        return Parameters(declared)
    found = observed.read(state["Value"])
    if found is None:
        logger.warning("%s does not hold an observed state of ours: ignored", state["Name"])
    return Parameters(declared, found, has_strange_state=found is None)
