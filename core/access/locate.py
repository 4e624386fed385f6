"""Where a request's database is, and with which credentials it is entered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import NamedTuple, Protocol

from core.access.credentials import MasterCredentials, master_credentials, same_host
from core.access.naming import Register, find, of_a_secret
from core.decisions.eligibility import Eligibility, Verdict, eligibility, read_only, refusal
from core.errors import (
    InstanceNotReady,
    InvalidField,
    LeftAlone,
    MigrationError,
    NotFound,
    Rejected,
)
from core.model import READING, Database, ManagedDatabase, Request, Secret
from core.settings import Settings

# A secret may be written a little after its instance.
SECRET_MAY_COME_WITHIN = timedelta(hours=1)


# Babelfish keeps its own objects there (Aurora User Guide, "Understanding Babelfish for Aurora
# PostgreSQL architecture and configuration").
_BABELFISH = "babelfish_db"

# Nobody's own: each new database is a copy of the one, or of the other, and RDS keeps the third.
_OF_THE_SERVER = ("template1", "template0", "rdsadmin")


class Directory(Register, Protocol):
    """Where databases and secrets are looked up; ``core.aws`` has the real one."""

    def read_only_clusters(self) -> frozenset[str]: ...
    def in_deployments(self) -> frozenset[str]: ...
    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret: ...
    def auth_token(self, host: str, port: int, user: str) -> str: ...


class Place(NamedTuple):
    """
    A database, and the instance or the cluster that it is on.

    Attributes:
        name: Its identifier; where none is known, the host.
        managed: ``None`` where only a secret's host is known.
        secret: The master secret; ``None`` where a token is the password.
        warning: What is wrong with it, though it can be used.
    """

    name: str
    database: Database
    managed: ManagedDatabase | None = None
    secret: Secret | None = None
    warning: str | None = None

    @property
    def address(self) -> dict[str, object]:
        """Return what a login needs to find the database, as in a rotation-format secret."""
        found: dict[str, object] = {
            "host": self.database.host,
            "port": self.database.port,
            "dbname": self.database.name,
        }
        if self.managed is None:
            return found
        field = "dbClusterIdentifier" if self.managed.is_cluster else "dbInstanceIdentifier"
        return found | {field: self.name}


def locate(
    request: Request,
    directory: Directory,
    settings: Settings,
    found: ManagedDatabase | None = None,
) -> Place:
    """
    Find the database of *request*, on *found* where that is what it names.

    Raises:
        MigrationError: The instance, the cluster or the secret is missing, wrong, or not ready.
    """
    place = _named(request, directory, settings, found)
    _refuse_others_own(place, request)
    return place


def _named(
    request: Request, directory: Directory, settings: Settings, found: ManagedDatabase | None
) -> Place:
    """Return the database that *request* names, whatever it is called."""
    if request.instance is not None:
        instance = found or find(request, directory, settings)
        warning = _check(instance, request, directory, settings)
        secret = None
        if request.secret_name or not _prefers_token(instance, settings):
            secret = _master_secret(request, instance, directory, settings)
        if secret is None:
            return _place_by_token(instance, directory, settings)
        credentials = master_credentials(secret)
        _check_owner(secret, credentials, instance)
        return _place(instance, secret, credentials, settings)._replace(warning=warning)

    if request.secret_name is None:
        raise InvalidField("secret_name", "is missing", "name the master secret, or an instance")
    secret = directory.secret(request.secret_name)
    credentials = master_credentials(secret)
    owner = _owner(secret, credentials, directory)
    if owner is not None:
        owner = of_a_secret(owner, directory, settings)
        _check(owner, request, directory, settings)
        return _place(owner, secret, credentials, settings)
    if credentials.host is None:
        raise NotFound(
            f"secret {secret.name} names no host, and belongs to no instance or cluster "
            "that RDS knows: store host, dbInstanceIdentifier or dbClusterIdentifier"
        )
    database = Database(
        host=credentials.host,
        port=credentials.port or 5432,
        name=credentials.dbname or "postgres",
        user=credentials.user,
        password=credentials.password,
        ca_file=settings.ca_file,
    )
    return Place(credentials.host, database, secret=secret)


def with_password_at(place: Place, directory: Directory, stage: str) -> Place | None:
    """Return *place* with its master secret read again at *stage*; ``None`` if it is the same."""
    if place.secret is None:
        return None
    try:
        secret = directory.secret(place.secret.arn, stage=stage)
    except NotFound:
        return None
    credentials = master_credentials(secret)
    if credentials.password == place.database.password:
        return None
    database = replace(place.database, user=credentials.user, password=credentials.password)
    return place._replace(database=database, secret=secret)


def with_secret(place: Place, directory: Directory, settings: Settings) -> Place | None:
    """Return *place*, which took no token, with its master secret; ``None`` if it has none."""
    instance = place.managed
    name = master_secret_name(instance, settings) if instance else None
    if instance is None or name is None:
        return None
    try:
        secret = directory.secret(name)
    except NotFound:
        return None
    credentials = master_credentials(secret)
    _check_owner(secret, credentials, instance)
    return _place(instance, secret, credentials, settings)


def master_secret_name(instance: ManagedDatabase, settings: Settings) -> str | None:
    """Return where the master secret of *instance* is, by tag, then pattern, then RDS itself."""
    tagged = instance.tags.get(f"{settings.prefix}:secret")
    if tagged:
        return tagged
    if settings.master_secret_name:
        return settings.master_secret_name.replace("{instance}", instance.identifier)
    return instance.managed_secret.arn if instance.managed_secret else None


def is_entered_unasked(place: Place, settings: Settings) -> bool:
    """Say whether a request on the bus, which names no secret, could enter *place* too."""
    instance = place.managed
    return instance is not None and (
        place.secret is None
        or _prefers_token(instance, settings)
        or master_secret_name(instance, settings) is not None
    )


def _prefers_token(instance: ManagedDatabase, settings: Settings) -> bool:
    return settings.iam_authentication and instance.takes_tokens


def refuse_secondary(place: Place, request: Request, directory: Directory) -> None:
    """
    Refuse the copy of a global cluster, whose endpoint leads to no writer.

    Raises:
        Rejected, LeftAlone: It is one, and a person asked for it, or did not.
    """
    instance = place.managed
    if instance is None or not instance.is_aurora:
        return
    if instance.arn in directory.read_only_clusters():
        _refuse(read_only(instance), request)


def _check(
    instance: ManagedDatabase, request: Request, directory: Directory, settings: Settings
) -> str | None:
    """Raise unless *instance* can be migrated now; return what to warn of."""
    managed = instance.managed_secret
    uses_managed_secret = (
        managed is not None
        and not request.secret_name
        and not _prefers_token(instance, settings)
        and master_secret_name(instance, settings) == managed.arn
    )

    def decide(*, is_in_deployment: bool = False, is_secondary: bool = False) -> Eligibility:
        return eligibility(
            instance,
            settings,
            is_direct=request.is_direct,
            only_looks=request.is_direct and request.action in READING,
            uses_managed_secret=uses_managed_secret,
            is_in_deployment=is_in_deployment,
            is_secondary=is_secondary,
        )

    found = decide()
    if found.reason == "no-writer" and instance.is_aurora:
        # So looks the copy of a global cluster, too.
        found = decide(is_secondary=instance.arn in directory.read_only_clusters())
    if found.verdict is Verdict.USE and request.action not in READING:
        found = decide(is_in_deployment=instance.arn in directory.in_deployments())
    _refuse(found, request)
    return found.warning


def _refuse(found: Eligibility, request: Request) -> None:
    """Raise what *found* means to whoever asked, if it keeps us away."""
    refused = refusal(found)
    if refused is None:
        return
    # Whoever bumps such a name waits for a run: it must not end in silence.
    is_told = request.is_direct or found.reason == "same-name"
    if found.verdict is Verdict.SKIP and not is_told:
        raise LeftAlone(found.reason, found.message)
    raise refused


def _master_secret(
    request: Request, instance: ManagedDatabase, directory: Directory, settings: Settings
) -> Secret | None:
    """
    Read the master secret of *instance*; ``None`` where it has none and takes IAM tokens.

    On a young instance it may still be coming. RDS does not tell a master without a password
    (RDS API, CreateDBInstance, "MasterUserAuthenticationType"): that no secret is found is how
    we know one.
    """
    name = request.secret_name or master_secret_name(instance, settings)
    is_named = request.secret_name or f"{settings.prefix}:secret" in instance.tags
    missing: MigrationError
    if name is None:
        if instance.takes_tokens:
            return None
        missing = NotFound(
            f"{instance.kind} {instance.identifier} has no master secret: let RDS manage it, tag "
            f"the {instance.kind} {settings.prefix}:secret, or set the parameter "
            "MasterSecretName; or turn on IAM database authentication, if its master may log in "
            "with a token"
        )
    else:
        try:
            return directory.secret(name)
        except NotFound as error:
            missing = error
    made_at = instance.created_at
    is_young = made_at is not None and datetime.now(UTC) - made_at < SECRET_MAY_COME_WITHIN
    # Whoever named a secret in the request has mistyped it, or comes back.
    if is_young and request.secret_name is None:
        raise InstanceNotReady(f"{missing}; the {instance.kind} is new, so it may still appear")
    if instance.takes_tokens and not is_named:
        return None
    raise missing


def _owner(
    secret: Secret, credentials: MasterCredentials, directory: Directory
) -> ManagedDatabase | None:
    """
    Return the instance or cluster that a bare *secret* belongs to, where that can be told.

    A secret may have another endpoint of its cluster, at which readers answer, or a lone writer.
    """
    is_managed = _is_managed_by_rds(secret)
    if not is_managed:
        if credentials.cluster is not None:
            return directory.cluster(credentials.cluster.lower())
        if credentials.instance is not None:
            named = directory.instance(credentials.instance.lower())
            return directory.cluster(named.cluster) if named.cluster else named
    if credentials.host is None and not is_managed:
        return None
    port = credentials.port or 5432
    for instance in chain(directory.clusters(), directory.instances()):
        if is_managed:
            is_its = _is_managed_secret_of(instance, secret)
        else:
            hosts = (instance.host, *instance.other_hosts)
            is_named = any(same_host(host, credentials.host) for host in hosts)
            is_its = is_named and instance.port == port
        if is_its:
            return directory.cluster(instance.cluster) if instance.cluster else instance
    return None


def _is_managed_by_rds(secret: Secret) -> bool:
    return ":secret:rds!" in secret.arn


def _is_managed_secret_of(instance: ManagedDatabase, secret: Secret) -> bool:
    """
    Say whether *secret* is the one that RDS keeps for *instance*, by what RDS says itself.

    RDS tags the secret with the instance's ARN too, which has the name of another time where
    the instance was renamed.
    """
    return instance.managed_secret is not None and instance.managed_secret.arn == secret.arn


def _check_owner(secret: Secret, credentials: MasterCredentials, instance: ManagedDatabase) -> None:
    """Refuse a secret that is for another instance, by what it says or by what RDS says."""
    if _is_managed_by_rds(secret):
        if _is_managed_secret_of(instance, secret):
            return
        raise Rejected(
            f"secret_name: {secret.name} is not the one that RDS keeps for {instance.identifier}: "
            f"name the {instance.kind}'s own secret"
        )
    owner = _another(credentials, instance)
    if owner is not None:
        raise Rejected(
            f"secret_name: {secret.name} is for {owner}, not {instance.identifier}: "
            f"name the {instance.kind}'s own secret, or correct the identifier in this one"
        )


def _another(credentials: MasterCredentials, instance: ManagedDatabase) -> str | None:
    """Return what *credentials* say they are for, where that is not *instance*."""
    mine = [instance.identifier.lower()]
    if credentials.cluster is not None:
        is_its = instance.is_cluster and credentials.cluster.lower() in mine
        return None if is_its else f"cluster {credentials.cluster}"
    # It may name the member that wrote when it was stored, and that reads since a failover.
    mine += map(str.lower, instance.members)
    if credentials.instance is None or credentials.instance.lower() in mine:
        return None
    return f"instance {credentials.instance}"


def _place(
    instance: ManagedDatabase, secret: Secret, credentials: MasterCredentials, settings: Settings
) -> Place:
    """Return the managed database of *instance*, at its own endpoint."""
    if instance.host is None or instance.port is None:
        raise InstanceNotReady(f"{instance.kind} {instance.identifier} has no endpoint yet")
    database = Database(
        host=instance.host,
        port=instance.port,
        name=_database_name(instance, credentials.dbname, settings),
        user=credentials.user,
        password=credentials.password,
        ca_file=settings.ca_file,
    )
    return Place(instance.identifier, database, instance, secret)


def _place_by_token(instance: ManagedDatabase, directory: Directory, settings: Settings) -> Place:
    """Return the managed database of *instance*, entered with a token instead of a password."""
    user = instance.master_username
    if instance.host is None or instance.port is None or user is None:
        raise InstanceNotReady(f"{instance.kind} {instance.identifier} has no endpoint yet")
    database = Database(
        host=instance.host,
        port=instance.port,
        name=_database_name(instance, None, settings),
        user=user,
        password=directory.auth_token(instance.host, instance.port, user),
        ca_file=settings.ca_file,
    )
    return Place(instance.identifier, database, instance)


def _refuse_others_own(place: Place, request: Request) -> None:
    """
    Refuse a database that a server keeps for itself, and Babelfish's, whose T-SQL side it is.

    Raises:
        Rejected: It is one of the server's; or Babelfish's, and a person asked for it.
        LeftAlone: It is Babelfish's, and nobody did.
    """
    name = place.database.name
    if name in _OF_THE_SERVER:
        raise Rejected(
            f"database {name} of {place.name} is the server's own: name another one by the tag of "
            "the instance, or by dbname in the master secret"
        )
    if name != _BABELFISH:
        return
    message = f"database {_BABELFISH} of {place.name} is Babelfish's own"
    if not request.is_direct:
        raise LeftAlone("babelfish", message)
    raise Rejected(f"instance: {message}: name another database of it by the tag")


def _database_name(instance: ManagedDatabase, from_secret: str | None, settings: Settings) -> str:
    tagged = instance.tags.get(f"{settings.prefix}:database")
    return tagged or from_secret or instance.db_name or "postgres"
