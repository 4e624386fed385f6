"""Whether an instance is ours to migrate now: one pure decision with a reason code."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from core.errors import AccessDenied, InstanceNotReady, MigrationError, NotReady, Rejected
from core.model import Instance
from core.settings import Settings


class Verdict(StrEnum):
    """What to do with an instance."""

    USE = "use"
    WAIT = "wait"
    SKIP = "skip"
    REFUSE = "refuse"


class Eligibility(NamedTuple):
    """A verdict, its reason code, and a sentence for a person."""

    verdict: Verdict
    reason: str
    message: str


# RDS User Guide, "Viewing Amazon RDS DB instance status". Every status that is not named
# here is one in which the server answers, or will in a moment: the connection decides.
_BEING_MADE = frozenset({"creating", "starting"})
_STOPPED = frozenset({"stopped", "stopping"})
_UNUSABLE = frozenset(
    {
        "deleting",
        "delete-precheck",
        "failed",
        "restore-error",
        "insufficient-capacity",
        "inaccessible-encryption-credentials",
        "inaccessible-encryption-credentials-recoverable",
    }
)
# RDS User Guide, "Creating a blue/green deployment": green copies are named so.
_GREEN = re.compile(r".+-green-[0-9a-z]{6}")


# The reason codes of SKIP.
SKIPPED = frozenset(
    {
        "name-prefix",
        "not-opted-in",
        "cluster-member",
        "not-postgresql",
        "green-copy",
        "read-replica",
        "other-vpc",
        "stopped",
        "unusable",
    }
)


def is_opted_in(instance: Instance, settings: Settings) -> bool:
    """Say whether events and sweeps may touch *instance*."""
    return settings.manage_all or instance.tags.get(settings.prefix) == "enabled"


def eligibility(
    instance: Instance,
    settings: Settings,
    *,
    is_direct: bool = False,
    uses_managed_secret: bool = False,
) -> Eligibility:
    """
    Decide whether *instance* can be migrated now, must be waited for, or is not ours.

    A direct request needs no tag: whoever sends it names the instance.
    *uses_managed_secret* says that the master's password comes from RDS's own secret, so
    that the secret's state counts too.
    """
    name = instance.identifier
    secret = instance.managed_secret if uses_managed_secret else None

    def skip(reason: str, message: str) -> Eligibility:
        return Eligibility(Verdict.SKIP, reason, message)

    def wait(reason: str, message: str) -> Eligibility:
        return Eligibility(Verdict.WAIT, reason, message)

    if not name.startswith(settings.instance_name_prefix):
        return skip("name-prefix", f"{name} is outside {settings.instance_name_prefix!r}")
    if not is_direct and not is_opted_in(instance, settings):
        return skip("not-opted-in", f"{name} has no tag {settings.prefix}=enabled")
    if instance.cluster is not None:
        return skip("cluster-member", f"{name} is a member of cluster {instance.cluster}")
    if instance.engine != "postgres":
        return skip("not-postgresql", f"{name} runs {instance.engine}, not postgres")
    if instance.replica_of is not None and _GREEN.fullmatch(name):
        return skip("green-copy", f"{name} is the green copy of {instance.replica_of}")
    if instance.replica_of is not None:
        return skip("read-replica", f"{name} is a read replica of {instance.replica_of}")
    if settings.vpc_id and instance.vpc_id and instance.vpc_id != settings.vpc_id:
        return skip(
            "other-vpc",
            f"{name} is in {instance.vpc_id}, and this function reaches {settings.vpc_id} only",
        )
    if instance.status in _STOPPED:
        return skip("stopped", f"{name} is {instance.status}; it is caught up when it starts")
    if instance.status in _UNUSABLE or instance.status.startswith("incompatible-"):
        return skip("unusable", f"{name} is {instance.status}")
    if instance.status in _BEING_MADE or instance.host is None:
        return wait("being-made", f"{name} is {instance.status} and has no endpoint to use yet")
    if secret is not None and secret.status == "creating":
        return wait("secret-creating", f"RDS is still making the master secret of {name}")
    if secret is not None and secret.status == "impaired":
        return Eligibility(
            Verdict.REFUSE,
            "secret-impaired",
            f"the managed master secret of {name} is impaired: give RDS access to its KMS key, "
            "or rotate it, then try again",
        )
    return Eligibility(Verdict.USE, "eligible", f"{name} is {instance.status}")


def refusal(found: Eligibility) -> MigrationError | None:
    """Return the error that *found* means to somebody who asked for this very instance."""
    match found.verdict:
        case Verdict.USE:
            return None
        case Verdict.WAIT:
            return InstanceNotReady(f"{found.message} ({found.reason})")
        case Verdict.REFUSE:
            return AccessDenied(f"{found.message} ({found.reason})")
        case Verdict.SKIP if found.reason == "stopped":
            return NotReady(f"{found.message} ({found.reason}): start the instance")
        case _:
            return Rejected(f"instance: {found.message} ({found.reason}): name another instance")
