"""Whether a managed database is ours to migrate now: one pure decision with a reason code."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from core.errors import AwaitsPerson, InstanceNotReady, MigrationError, Rejected
from core.model import OLDEST_POSTGRESQL, Kind, ManagedDatabase, ManagedSecret
from core.settings import Settings


class Verdict(StrEnum):
    """What to do with a managed database."""

    USE = "use"
    WAIT = "wait"
    SKIP = "skip"


class Eligibility(NamedTuple):
    """A verdict, its reason code, and a sentence for a person; what to warn of, if anything."""

    verdict: Verdict
    reason: str
    message: str
    warning: str | None = None


# RDS User Guide, "Viewing Amazon RDS DB instance status", and Aurora User Guide, "Viewing DB
# cluster status". Every status that is not named here, such as failing-over, is one in which the
# server answers, or will in a moment: the connection decides.
BEING_MADE = frozenset({"creating", "starting", "migrating", "preparing-data-migration"})
# New connections by the old name, or with the old password, fail at the end of these.
_BEING_CHANGED = frozenset({"renaming", "resetting-master-credentials"})
_STOPPED = frozenset({"stopped", "stopping"})
_UNUSABLE = frozenset(
    {
        "deleting",
        "delete-precheck",
        "failed",
        "cloning-failed",
        "migration-failed",
        "restore-error",
        "insufficient-capacity",
        "inaccessible-encryption-credentials",
        "inaccessible-encryption-credentials-recoverable",
    }
)
# RDS User Guide, "Overview of Amazon RDS Blue/Green Deployments": green copies are named so, and
# what was production before a switchover.
_GREEN = re.compile(r".+-green-[0-9a-z]{6}")
_OLD_BLUE = re.compile(r".+-old[0-9]+")


# What day2 speaks, by the kind of what AWS has (RDS API, "Engine").
_ENGINES = {
    Kind.INSTANCE: frozenset({"postgres"}),
    Kind.CLUSTER: frozenset({"postgres", "aurora-postgresql"}),
}

# Shapes of cluster that day2 does not serve, and what is said of them.
_LIMITS = {
    "serverless-v1": "runs Aurora Serverless v1, which AWS has ended",
    "limitless": "is an Aurora Limitless Database, whose shards take other statements",
    "express": "was made by express configuration, whose gateway has no certificate of RDS",
}

_READ_ONLY = "is a copy that takes no writes: its primary cluster is migrated, and it follows"

# The reason codes of SKIP.
SKIPPED = frozenset(
    {
        *_LIMITS,
        "same-name",
        "read-only",
        "babelfish",
        "name-prefix",
        "not-opted-in",
        "cluster-member",
        "not-postgresql",
        "old-version",
        "green-copy",
        "old-blue",
        "read-replica",
        "blue-green",
        "other-vpc",
        "stopped",
        "unusable",
    }
)


def is_opted_in(instance: ManagedDatabase, settings: Settings) -> bool:
    """Say whether events and sweeps may touch *instance*."""
    return settings.manage_all or instance.tags.get(settings.prefix) == "enabled"


def is_postgresql(database: ManagedDatabase) -> bool:
    """Say whether *database* is one of PostgreSQL, Aurora's included."""
    return database.engine in _ENGINES[database.kind]


def read_only(cluster: ManagedDatabase) -> Eligibility:
    """Return what is found of the copy of a global cluster."""
    return Eligibility(Verdict.SKIP, "read-only", f"{cluster.identifier} {_READ_ONLY}")


def eligibility(
    instance: ManagedDatabase,
    settings: Settings,
    *,
    is_direct: bool = False,
    only_looks: bool = False,
    uses_managed_secret: bool = False,
    is_in_deployment: bool = False,
    is_secondary: bool = False,
) -> Eligibility:
    """
    Decide whether *instance* can be migrated now, must be waited for, or is not ours.

    A direct request needs no tag: whoever sends it names the instance. One that *only_looks* may
    see what nobody may change, too: a read replica, and what is or was a side of a deployment.
    *uses_managed_secret* says that the master's password comes from RDS's own secret, so
    that the secret's state counts too. *is_in_deployment* says that it is a side of a blue/green
    deployment that has not ended, *is_secondary* that it is the copy of a global cluster.
    """
    secret = instance.managed_secret if uses_managed_secret else None
    why_not = _why_not(
        instance,
        settings,
        is_direct=is_direct,
        only_looks=only_looks,
        is_in_deployment=is_in_deployment,
        is_secondary=is_secondary,
    )
    for verdict, reasons in (
        (Verdict.SKIP, why_not),
        (Verdict.WAIT, _why_later(instance, secret)),
    ):
        for applies, reason, message in reasons:
            if applies:
                return Eligibility(verdict, reason, f"{instance.identifier} {message}")
    return Eligibility(
        Verdict.USE, "eligible", f"{instance.identifier} is {instance.status}", _warning(secret)
    )


# Whether a reason applies, its code, and what is said of the instance; the first that does counts.
_Reasons = tuple[tuple[object, str, str], ...]


def _why_not(
    instance: ManagedDatabase,
    settings: Settings,
    *,
    is_direct: bool,
    only_looks: bool,
    is_in_deployment: bool,
    is_secondary: bool,
) -> _Reasons:
    """Return each reason to leave *instance* alone."""
    changes = not only_looks
    is_replica = instance.replica_of is not None
    return (
        (
            not instance.identifier.startswith(settings.instance_name_prefix),
            "name-prefix",
            f"is outside {settings.instance_name_prefix!r}",
        ),
        (
            not is_direct and not is_opted_in(instance, settings),
            "not-opted-in",
            _untagged(instance.tags.get(settings.prefix), settings.prefix),
        ),
        (
            instance.cluster is not None,
            "cluster-member",
            f"is a member of cluster {instance.cluster}",
        ),
        (
            not is_postgresql(instance),
            "not-postgresql",
            f"runs {instance.engine}, not PostgreSQL",
        ),
        (
            instance.namesake,
            "same-name",
            f"is the name of {instance.arn} and {instance.namesake}: untag one, or rename it",
        ),
        (instance.limit, instance.limit or "", _LIMITS.get(instance.limit or "", "")),
        (
            _is_old(instance.engine_version),
            "old-version",
            f"runs PostgreSQL {instance.engine_version}: day2 needs {OLDEST_POSTGRESQL} or newer",
        ),
        # By logical replication a green copy has no source that RDS would tell.
        (
            changes and _GREEN.fullmatch(instance.identifier),
            "green-copy",
            "is named as the green copy of a blue/green deployment",
        ),
        (
            changes and _OLD_BLUE.fullmatch(instance.identifier),
            "old-blue",
            "is named as what a blue/green deployment replaced",
        ),
        (
            changes and is_replica and not instance.is_cluster,
            "read-replica",
            f"is a read replica of {instance.replica_of}",
        ),
        (is_secondary or (is_replica and instance.is_cluster), "read-only", _READ_ONLY),
        # RDS User Guide, "Switchover guardrails": DDL on blue degrades the replication.
        (
            is_in_deployment,
            "blue-green",
            "is in a blue/green deployment, which a change would break; it is caught up afterwards",
        ),
        (
            settings.vpc_id and instance.vpc_id and instance.vpc_id != settings.vpc_id,
            "other-vpc",
            f"is in {instance.vpc_id}, and this function reaches {settings.vpc_id} only",
        ),
        (
            instance.status in _STOPPED,
            "stopped",
            f"is {instance.status}; it is caught up when it starts",
        ),
        (
            instance.status in _UNUSABLE or instance.status.startswith("incompatible-"),
            "unusable",
            f"is {instance.status}",
        ),
    )


def _untagged(value: str | None, prefix: str) -> str:
    """Say that the tag is lacking, or what it has for *value*: tags know case and white space."""
    if value is None:
        return f"has no tag {prefix}=enabled"
    return f"has the tag {prefix}={value!r}, and only {prefix}=enabled counts"


def _is_old(version: str) -> bool:
    """Say whether *version* is older than what we can work with; an unknown one is not."""
    major = version.partition(".")[0]
    return major.isdecimal() and int(major) < OLDEST_POSTGRESQL


def _why_later(instance: ManagedDatabase, secret: ManagedSecret | None) -> _Reasons:
    """Return each reason to wait for *instance*."""
    return (
        (
            instance.status in BEING_MADE or instance.host is None,
            "being-made",
            f"is {instance.status} and has no endpoint to use yet",
        ),
        (
            instance.is_cluster and instance.writer is None,
            "no-writer",
            "has no instance that writes yet",
        ),
        (instance.status in _BEING_CHANGED, "being-changed", f"is {instance.status}"),
        (
            secret is not None and secret.status == "creating",
            "secret-creating",
            "waits for its master secret, which RDS is still making",
        ),
    )


def _warning(secret: ManagedSecret | None) -> str | None:
    """Return what is wrong with *secret*, which can be read all the same."""
    if secret is None or secret.status != "impaired":
        return None
    # RDS API, MasterUserSecret, "SecretStatus".
    return (
        "the managed master secret is impaired: its password still works, but RDS cannot rotate "
        "it: give RDS access to the secret and its KMS key"
    )


def refusal(found: Eligibility) -> MigrationError | None:
    """Return the error that *found* means to somebody who asked for this very instance."""
    match found.verdict:
        case Verdict.USE:
            return None
        case Verdict.WAIT:
            return InstanceNotReady(f"{found.message} ({found.reason})")
        case Verdict.SKIP if found.reason == "stopped":
            return AwaitsPerson(f"{found.message} ({found.reason}): start it")
        case Verdict.SKIP if found.reason == "blue-green":
            return AwaitsPerson(
                f"{found.message} ({found.reason}): switch over, or delete the deployment"
            )
        case Verdict.SKIP if found.reason in ("green-copy", "old-blue"):
            return Rejected(
                f"instance: {found.message} ({found.reason}): name another one, or rename this "
                "one if no deployment made it"
            )
        case Verdict.SKIP if found.reason == "same-name":
            return Rejected(f"instance: {found.message} ({found.reason})")
        case Verdict.SKIP if found.reason == "old-version":
            return Rejected(f"instance: {found.message} ({found.reason}): upgrade it first")
        case Verdict.SKIP if found.reason == "unusable":
            return Rejected(
                f"instance: {found.message} ({found.reason}): mend what RDS says of it first, or "
                "name another one"
            )
        case _:
            return Rejected(f"instance: {found.message} ({found.reason}): name another one")
