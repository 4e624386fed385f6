"""Which instance or cluster a name means: what AWS has by that name, and which of it we keep."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Protocol

from core.decisions.eligibility import is_opted_in, is_postgresql
from core.errors import LeftAlone, NoSuchInstance
from core.model import ManagedDatabase, Request, Trigger
from core.settings import Settings

logger = logging.getLogger(__name__)


class Register(Protocol):
    """What RDS has, by identifier and all of it; ``core.aws`` has the real one."""

    def instance(self, identifier: str) -> ManagedDatabase: ...
    def cluster(self, identifier: str) -> ManagedDatabase: ...
    def instances(self) -> Iterator[ManagedDatabase]: ...
    def clusters(self) -> Iterator[ManagedDatabase]: ...


def find(request: Request, register: Register, settings: Settings) -> ManagedDatabase:
    """
    Find the managed database that *request* names, which may be an instance or a cluster.

    A member of a cluster stands for its cluster. Instances and clusters have names of their own,
    so that one of each may have the same: where both could be meant, what is returned has a
    namesake, and is touched by nobody.

    Raises:
        NoSuchInstance: RDS knows neither of this name.
        LeftAlone: A target was declared for a member, which has none of its own.
    """
    name = str(request.instance)
    if request.trigger is Trigger.CLUSTER:
        cluster = _known(register.cluster, name)
        rival = _rival(cluster, register.instance, settings)
        return _or_namesake(cluster, rival, name, request, settings)
    instance = _known(register.instance, name)
    if request.trigger is Trigger.INSTANCE:
        if instance is not None and instance.cluster is not None:
            return _cluster_of(instance, register, request, settings)
        rival = _rival(instance, register.cluster, settings)
        return _or_namesake(instance, rival, name, request, settings)
    cluster = _known(register.cluster, name)
    if instance is None or instance.cluster is None:
        first, second = _likelier(instance, cluster, settings)
        return _or_namesake(first, second, name, request, settings)
    return cluster or _cluster_of(instance, register, request, settings)


def of_a_secret(found: ManagedDatabase, register: Register, settings: Settings) -> ManagedDatabase:
    """
    Return *found*, which a secret belongs to, with its namesake where both are ours.

    The secret says which is meant, but what they would share has one name still.
    """
    if not _is_candidate(found, settings):
        return found
    other = _known(register.instance if found.is_cluster else register.cluster, found.identifier)
    if other is None or other.cluster is not None or not _is_candidate(other, settings):
        return found
    return found._replace(namesake=other.arn)


def fleet(register: Register, settings: Settings) -> list[ManagedDatabase]:
    """
    Return every instance and cluster by name, but for instances that are members of a cluster.

    Of an instance and a cluster that are both ours by one name, one is returned, with its namesake.
    """
    instances, clusters = list(register.instances()), list(register.clusters())
    of_name = {one.identifier: one for one in clusters}
    for member in instances:
        if member.cluster is not None:
            _tell_of_tag(member, of_name.get(member.cluster), settings)
    every = [one for one in instances if one.cluster is None] + clusters
    by_name = attrgetter("identifier")
    found: list[ManagedDatabase] = []
    for _, same in groupby(sorted(every, key=by_name), by_name):
        ones = list(same)
        ours = [one for one in ones if _is_candidate(one, settings)]
        found += [ours[0]._replace(namesake=ours[1].arn)] if len(ours) > 1 else ones
    return found


def _known(look_up: Callable[[str], ManagedDatabase], name: str) -> ManagedDatabase | None:
    try:
        return look_up(name)
    except NoSuchInstance:
        return None


def _rival(
    found: ManagedDatabase | None,
    look_up: Callable[[str], ManagedDatabase],
    settings: Settings,
) -> ManagedDatabase | None:
    """
    Return what else has the name of *found*, which an event was about, where that counts.

    An account has many databases that are not ours, and each event of theirs comes here: RDS is
    asked once about them.
    """
    if found is None or not _is_candidate(found, settings):
        return None
    return _known(look_up, found.identifier)


def _or_namesake(
    first: ManagedDatabase | None,
    second: ManagedDatabase | None,
    name: str,
    request: Request,
    settings: Settings,
) -> ManagedDatabase:
    """Return *first*, with *second* as its namesake where that could be meant just as well."""
    if first is None:
        raise NoSuchInstance(
            f"{name} names neither a DB instance nor a DB cluster here: check its name, "
            "account and region"
        )
    if second is None or second.cluster is not None or not is_postgresql(second):
        return first
    is_ours = (_is_candidate(first, settings), _is_candidate(second, settings))
    is_doubtful = all(is_ours) or (request.is_direct and not any(is_ours))
    return first._replace(namesake=second.arn) if is_doubtful else first


def _likelier(
    instance: ManagedDatabase | None, cluster: ManagedDatabase | None, settings: Settings
) -> tuple[ManagedDatabase | None, ManagedDatabase | None]:
    """Return the two with the one before that is ours, or PostgreSQL at least."""
    if cluster is not None and (
        instance is None
        or not is_postgresql(instance)
        or (_is_candidate(cluster, settings) and not _is_candidate(instance, settings))
    ):
        return cluster, instance
    return instance, cluster


def _is_candidate(database: ManagedDatabase, settings: Settings) -> bool:
    return is_opted_in(database, settings) and is_postgresql(database)


def _cluster_of(
    member: ManagedDatabase, register: Register, request: Request, settings: Settings
) -> ManagedDatabase:
    """Return the cluster that *member* is of."""
    if request.trigger is Trigger.PARAMETER:
        raise LeftAlone(
            "cluster-member",
            f"{member.identifier} is a member of the cluster {member.cluster}, whose database it "
            "serves: declare the target for the cluster",
        )
    cluster = register.cluster(str(member.cluster))
    logger.info("%s is a member of the cluster %s", member.identifier, cluster.identifier)
    _tell_of_tag(member, cluster, settings)
    return cluster


def _tell_of_tag(
    member: ManagedDatabase, cluster: ManagedDatabase | None, settings: Settings
) -> None:
    """Say of a tag on *member* that it counts for nothing, where its owner may believe it does."""
    is_tagged = member.tags.get(settings.prefix) is not None
    if is_tagged and cluster is not None and not is_opted_in(cluster, settings):
        logger.info(
            "the tag %s of %s counts for nothing: tag its cluster %s instead",
            settings.prefix,
            member.identifier,
            cluster.identifier,
            extra={"reason": "cluster-member", "instance": member.identifier},
        )
