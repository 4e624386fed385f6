"""
The values that cross a boundary: what was asked, where, and what came of it.

They are named tuples, which every cold start makes in a fifth of the time that a dataclass takes.
What hides a password, or changes, is a dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from core.outcome import Outcome

# The oldest PostgreSQL whose settings and statements ours are (CREATE OR REPLACE TRIGGER,
# idle_session_timeout).
OLDEST_POSTGRESQL = 14

HEAD = "head"
FLEET = "_fleet"

# Our own events that wake us, by their detail-type.
MIGRATION_REQUESTED = "Migration Requested"
SWEEP_REQUESTED = "Sweep Requested"


def in_a_line(text: str) -> str:
    """
    Return *text* as it may be shown: what could steer a terminal, or begin a line, is escaped.

    Whoever may make a role or a table chooses what it is called, and messages name it.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def cut(text: str, most: int) -> str:
    """Return at most *most* characters of *text*, and a note of how many more there are."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text) - most:,} more characters)"


class Action(StrEnum):
    """What a request asks for."""

    MIGRATE = "migrate"
    STATUS = "status"
    PLAN = "plan"
    CHECK = "check"
    ROLLBACK = "rollback"
    STAMP = "stamp"
    ADOPT = "adopt"


# They change nothing, so there is nothing to tell of them, and nothing that they could break.
READING = frozenset({Action.STATUS, Action.PLAN, Action.CHECK})


class Trigger(StrEnum):
    """What woke us."""

    DIRECT = "direct"
    INSTANCE = "instance"
    CLUSTER = "cluster"
    PARAMETER = "parameter"
    REQUEST = "request"
    SWEEP = "sweep"


class TargetSource(StrEnum):
    """Where the target of a run came from."""

    REQUEST = "request"
    PARAMETER = "parameter"
    FLEET = "fleet"
    DEFAULT = "default"


class Waiting(NamedTuple):
    """
    How an event has waited so far in the stack's own queue (times are aware, in UTC).

    Attributes:
        since: When it was put off first.
        until: When it is put off no more.
        times: How often it was put off.
    """

    since: datetime
    until: datetime
    times: int


class Request(NamedTuple):
    """
    One thing to do to one database, whoever asked.

    Attributes:
        target: As asked: ``head``, an exact identifier, or ``None`` for the declared target.
        from_revision: The revision that a rollback says it starts from.
        take_over: Names of roles, schemas and tables that somebody else made, and that the
            revisions may take up all the same.
        continues: The id of the run whose rest this asks for.
        waiting: How it has waited, where it comes from the stack's own queue.
    """

    trigger: Trigger
    action: Action = Action.MIGRATE
    instance: str | None = None
    secret_name: str | None = None
    target: str | None = None
    from_revision: str | None = None
    take_over: frozenset[str] = frozenset()
    continues: str | None = None
    waiting: Waiting | None = None

    @property
    def is_direct(self) -> bool:
        return self.trigger is Trigger.DIRECT


# A named tuple without fields would be false.
@dataclass(frozen=True, slots=True)
class FleetBump:
    """The fleet's target changed: every instance that follows it is to be requested."""


class Sweep(NamedTuple):
    """
    Find the instances that are not at their declared target, and request them.

    Attributes:
        full: Request every managed instance, whatever its observed state says.
        after: Carry on behind this instance identifier; ``None`` starts anew.
    """

    full: bool = False
    after: str | None = None


class Ignored(NamedTuple):
    """An event that we know and leave alone, and why (a reason code and a sentence)."""

    reason: str
    message: str
    instance: str | None = None


class Kind(StrEnum):
    """Which of the two that AWS has a managed database is."""

    INSTANCE = "instance"
    CLUSTER = "cluster"


class ManagedSecret(NamedTuple):
    """The master secret that RDS keeps itself (RDS API, ``MasterUserSecret``)."""

    arn: str
    status: str


class ManagedDatabase(NamedTuple):
    """
    A DB instance or a DB cluster, as ``DescribeDBInstances`` or ``DescribeDBClusters`` tells it.

    Attributes:
        resource_id: ``DbiResourceId`` or ``DbClusterResourceId``: of no other one ever, as its
            name may be.
        engine_version: Such as ``15.18``; RDS says it of every instance and cluster.
        host: The endpoint: of a cluster the writer's, wherever that is.
        other_hosts: Of a cluster: the readers' endpoint, and those of one's own choice.
        takes_tokens: Whether IAM database authentication is on.
        cluster: Of an instance: the cluster that it is a member of, whose database its own is.
        replica_of: What it is a read replica of: an instance or a cluster.
        members: Of a cluster: its instances, the one that writes among them.
        writer: Of a cluster: its instance that writes; a new one has none at first, and the
            secondary of a global cluster never has.
        sleeps: Whether it may be asleep, and wakes by being connected to: RDS has no status for it
            (Aurora User Guide, "Scaling to Zero ACUs with automatic pause and resume").
        limit: The reason code of a shape of cluster that day2 does not serve.
        namesake: The ARN of the cluster, or the instance, that could be meant as well.
    """

    identifier: str
    arn: str
    resource_id: str
    engine: str
    status: str
    engine_version: str = ""
    host: str | None = None
    port: int | None = None
    other_hosts: tuple[str, ...] = ()
    takes_tokens: bool = False
    db_name: str | None = None
    master_username: str | None = None
    managed_secret: ManagedSecret | None = None
    cluster: str | None = None
    replica_of: str | None = None
    vpc_id: str | None = None
    security_groups: tuple[str, ...] = ()
    created_at: datetime | None = None
    tags: Mapping[str, str] = MappingProxyType({})
    kind: Kind = Kind.INSTANCE
    members: tuple[str, ...] = ()
    writer: str | None = None
    sleeps: bool = False
    limit: str | None = None
    namesake: str | None = None

    @property
    def is_cluster(self) -> bool:
        return self.kind is Kind.CLUSTER

    @property
    def is_aurora(self) -> bool:
        """Whether it is a cluster of Aurora's, which alone may be one of a global cluster."""
        return self.is_cluster and self.engine.startswith("aurora")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's text, its name and ARN; the text is never printed."""

    name: str
    arn: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Database:
    """
    Where to connect, and as whom; the password is never printed.

    Attributes:
        port: A TCP port.
        ca_file: The certificates (PEM) that the server's own must chain to.
    """

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    ca_file: str


class Declared(NamedTuple):
    """A target that a parameter declares, and since when; *value* is not checked yet."""

    value: str
    source: TargetSource
    parameter: str
    type: str = "String"
    declared_at: datetime | None = None


class Choice(NamedTuple):
    """The target of a run, as asked, and where it came from."""

    target: str
    source: TargetSource


class ObservedState(NamedTuple):
    """
    What the last run left behind, as kept in the instance's parameter.

    Attributes:
        error: The first line of why it did not reach its target; ``None`` where it did.
    """

    dbi_resource_id: str
    database: str
    revision: str | None
    outcome: str
    target: str | None
    build: str
    at: datetime
    request_id: str
    attempts: int = 1
    error: str | None = None


class Parameters(NamedTuple):
    """
    What Parameter Store says of one instance, read in one call.

    Attributes:
        has_strange_state: Where the observed state should be is something that we did not write.
    """

    declared: Declared | None = None
    observed: ObservedState | None = None
    has_strange_state: bool = False


@dataclass(frozen=True, slots=True)
class LoginPassword:
    """
    A login's password.

    Attributes:
        must_be_set: The role, if it exists, may still have another one.
    """

    password: str = field(repr=False)
    must_be_set: bool


class HistoryRow(NamedTuple):
    """One row of ``day2.history``; *revision* is ``None`` for a stamp to base."""

    revision: str | None
    direction: str
    description: str
    at: datetime
    trigger: str
    request_id: str
    checksum: str | None = None

    @property
    def by(self) -> str:
        """What wrote the row: its trigger and the request."""
        return f"{self.trigger} {self.request_id}"


@dataclass(slots=True)
class Report:
    """
    What is known of a run so far; filled as it becomes true, and handed to whoever reports.

    Attributes:
        applied: Revisions committed by this run, in order.
        warnings: What the server or we warn of, in words for a person.
        at: File and line of the revision that failed.
        parameters: What Parameter Store said of the instance, once that was asked.
        details: What only one action reports (``history``, ``sql``, …).
    """

    instance: str | None = None
    database: str | None = None
    resource_id: str | None = None
    previous_revision: str | None = None
    final_revision: str | None = None
    target_revision: str | None = None
    target_source: TargetSource | None = None
    applied: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    changed_files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    at: str | None = None
    parameters: Parameters | None = None
    details: dict[str, object] = field(default_factory=dict)

    def found_at(self, revision: str | None) -> None:
        """Note where the database is before anything was done, and so far since."""
        self.previous_revision = self.final_revision = revision


class Result(NamedTuple):
    """A request that was carried out, or left alone for a reason."""

    outcome: Outcome
    message: str
    report: Report
    reason: str | None = None
