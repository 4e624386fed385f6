"""
A real PostgreSQL server behind every PostgreSQL instance that moto pretends to have.

moto answers the RDS API and keeps its objects in LocalStack's process, so a managed master secret
is one that the emulated Secrets Manager serves.  Here its classes get what AWS does besides: the
server, the way through ``creating`` to ``available``, and the event on the bus once it is there.
Replicas, members of clusters and other engines exist without a server.
"""

# ruff: noqa: SLF001 - moto has no public way to most of this, and its version is pinned.

import atexit
import base64
import datetime as dt
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localstack.aws.connect import connect_to
from localstack.utils.patch import patch
from moto.rds import models as moto
from moto.rds.exceptions import InvalidDBInstanceStateFault

from infra.local import postgres_programs
from infra.local.postgres import Server
from infra.local.postgres_programs import Programs
from infra.local.state import State, free_port

LOG = logging.getLogger("localstack.day2.rds")

# Holds an instance in ``creating`` for so many seconds, for those who test what waits for it.
CREATING_SECONDS_TAG = "day2-local:creating-seconds"
# Lets an instance be without a server, for those who need hundreds of instances.
NO_SERVER_TAG = "day2-local:no-server"

DEFAULT_MASTER = "postgres"


@dataclass(frozen=True)
class Event:
    """
    An event of RDS about an instance.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html
    """

    id: str
    category: str
    message: str


CREATED = Event("RDS-EVENT-0005", "creation", "DB instance created")
DELETED = Event("RDS-EVENT-0003", "deletion", "DB instance deleted")
RESTARTED = Event("RDS-EVENT-0006", "availability", "DB instance restarted")
NEW_PASSWORD = Event("RDS-EVENT-0016", "configuration change", "Reset master credentials")
RESTORED_TO_TIME = Event("RDS-EVENT-0019", "restoration", "Restored from DB instance")
RESTORED = Event("RDS-EVENT-0043", "restoration", "Restored from snapshot")
STOPPED = Event("RDS-EVENT-0087", "notification", "DB instance stopped")
STARTED = Event("RDS-EVENT-0088", "notification", "DB instance started")


@dataclass(frozen=True)
class Origin:
    """What a new instance is made from: nothing, or a copy of another's data."""

    event: Event = CREATED
    data: Path | None = None


NEW = Origin()
_origin: ContextVar[Origin] = ContextVar("origin", default=NEW)

# By DbiResourceId, which survives a new name and is never used again.
SERVERS: dict[str, Server] = {}


def put_servers_behind_moto() -> None:
    """Change moto's classes, once."""
    moto.DBInstance.address = Server.host
    moto.DBCluster.endpoint = Server.host
    moto.DBCluster.reader_endpoint = Server.host
    # AWS answers none before there is one.
    moto.DBInstance.endpoint = property(
        lambda instance: (
            None
            if instance.status == "creating"
            else {"Address": instance.address, "Port": instance.port}
        )
    )
    for change in (
        _change_secrets,
        _change_creation,
        _change_snapshots,
        _change_stop_and_start,
        _change_passwords,
        _change_deletion,
    ):
        change()
    atexit.register(_stop_all)


def _change_creation() -> None:
    @patch(moto.DBInstance.__init__)
    def _begin_creating(fn: Callable[..., None], instance: Any, *args: Any, **kwargs: Any) -> None:
        fn(instance, *args, **kwargs)
        instance.status = "creating"
        instance.dbi_resource_id = _new_resource_id()
        instance.port = free_port()
        if _has_server(instance):
            instance.master_username = instance.master_username or DEFAULT_MASTER
        wanted = kwargs.get("engine_version")
        # Without a wish moto takes 9.3.
        if instance.engine == "postgres" and (_has_server(instance) or not wanted):
            instance.engine_version = _programs(wanted).version

    @patch(moto.RDSBackend.create_db_instance)
    def _create(fn: Callable[..., Any], backend: Any, db_kwargs: dict[str, Any]) -> Any:
        origin = _origin.get()
        instance = fn(backend, db_kwargs)
        _in_background(_finish_creating, instance, origin)
        return instance

    @patch(moto.RDSBackend.create_db_instance_read_replica)
    def _create_replica(fn: Callable[..., Any], backend: Any, db_kwargs: dict[str, Any]) -> Any:
        replica = fn(backend, db_kwargs)
        # moto made a shallow copy of the primary.
        replica.dbi_resource_id = _new_resource_id()
        replica.port = free_port()
        replica.tags = list(db_kwargs.get("tags") or [])
        _put_event(replica, CREATED)
        return replica


def _change_snapshots() -> None:
    @patch(moto.RDSBackend.create_db_snapshot)
    def _snapshot(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        snapshot = fn(backend, *args, **kwargs)
        snapshot.data = _copy_of_data(snapshot.database)
        return snapshot

    @patch(moto.RDSBackend.copy_db_snapshot)
    def _copy_snapshot(
        fn: Callable[..., Any], backend: Any, source: str, *args: Any, **kwargs: Any
    ) -> Any:
        snapshot = fn(backend, source, *args, **kwargs)
        snapshot.data = backend.get_db_snapshot(source).data
        return snapshot

    @patch(moto.RDSBackend.restore_db_instance_from_db_snapshot)
    def _restore(fn: Callable[..., Any], backend: Any, snapshot_id: str, overrides: Any) -> Any:
        data = backend.get_db_snapshot(snapshot_id).data
        with _made_from(Origin(RESTORED, data)):
            return fn(backend, snapshot_id, overrides)

    @patch(moto.RDSBackend.restore_db_instance_to_point_in_time)
    def _restore_to_time(
        fn: Callable[..., Any], backend: Any, source: str, target: str, overrides: Any
    ) -> Any:
        data = _copy_of_data(backend.databases.get(source))
        with _made_from(Origin(RESTORED_TO_TIME, data)):
            return fn(backend, source, target, overrides)


def _change_stop_and_start() -> None:
    @patch(moto.RDSBackend.stop_db_instance)
    def _stop(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        instance.status = "stopping"
        _in_background(_move, instance, Server.stop, "stopped", STOPPED)
        return instance

    @patch(moto.RDSBackend.start_db_instance)
    def _start(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        instance.status = "starting"
        _in_background(_move, instance, Server.start, "available", STARTED)
        return instance

    @patch(moto.RDSBackend.reboot_db_instance)
    def _reboot(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        _refuse_unless_available(instance)
        instance.status = "rebooting"

        def restart(server: Server) -> None:
            server.stop()
            server.start()

        _in_background(_move, instance, restart, "available", RESTARTED)
        return instance


def _change_passwords() -> None:
    @patch(moto.RDSBackend.modify_db_instance)
    def _modify(fn: Callable[..., Any], backend: Any, identifier: str, db_kwargs: Any) -> Any:
        changes = dict(db_kwargs)
        if changes.get("master_user_password") or changes.get("manage_master_user_password"):
            _refuse_unless_available(backend.describe_db_instances(identifier)[0])
        instance = fn(backend, identifier, db_kwargs)
        if changes.get("master_user_password") or changes.get("manage_master_user_password"):
            _set_master_password(instance)
        return instance


def _change_secrets() -> None:
    # A restore to a point in time copies the source's attributes deeply, private keys of KMS among
    # them, which cannot be copied.
    moto.MasterUserSecret.__deepcopy__ = lambda secret, _memo: secret

    @patch(moto.MasterUserSecret._generate_secret_string)
    def _login(_fn: Callable[..., str], secret: Any) -> str:
        return _new_login(secret.resource)

    @patch(moto.MasterUserSecret.rotate_secret)
    def _rotate(_fn: Callable[..., None], secret: Any) -> None:
        secret.secretsmanager.put_secret_value(
            secret.secret.arn,
            secret_string=_new_login(secret.resource),
            secret_binary=None,
            client_request_token=None,
            version_stages=["AWSCURRENT"],
        )
        _set_master_password(secret.resource)


def _change_deletion() -> None:
    @patch(moto.RDSBackend.delete_db_instance)
    def _delete(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        server = SERVERS.pop(instance.dbi_resource_id, None)

        def finish() -> None:
            if server:
                server.remove()
            _put_event(instance, DELETED)

        _in_background(finish)
        return instance


def _finish_creating(instance: Any, origin: Origin) -> None:
    """Give the instance its server, make it available and say so."""
    time.sleep(_creating_seconds(instance))
    if _has_server(instance):
        state = _state()
        try:
            server = Server.create(
                state.servers / instance.dbi_resource_id,
                certificate=(state.tls / "server.crt", state.tls / "server.key"),
                master=instance.master_username,
                master_password=_master_password(instance),
                database=instance.db_name,
                programs=_programs(instance.engine_version),
                port=instance.port,
                source=origin.data,
            )
        except Exception:
            instance.status = "failed"
            raise
        if instance.status == "deleting":
            server.remove()
            return
        SERVERS[instance.dbi_resource_id] = server
    instance.status = "available"
    _put_event(instance, origin.event)


def _move(instance: Any, how: Callable[[Server], None], status: str, event: Event) -> None:
    """Do *how* with the instance's server, then show *status* and say so."""
    if server := SERVERS.get(instance.dbi_resource_id):
        how(server)
    instance.status = status
    _put_event(instance, event)


def _set_master_password(instance: Any) -> None:
    """Make the server's password the one that the instance has now."""
    if server := SERVERS.get(getattr(instance, "dbi_resource_id", "")):
        server.set_password(instance.master_username, _master_password(instance))
        _put_event(instance, NEW_PASSWORD)


def _master_password(instance: Any) -> str:
    """Return the password in the instance's managed secret, else the one it was given."""
    if not instance.manage_master_user_password:
        return str(instance._master_user_password)
    secret = instance.master_user_secret.secret
    current = secret.versions[secret.default_version_id]
    return str(json.loads(current["secret_string"])["password"])


def _new_login(resource: Any) -> str:
    """Return a managed secret's text: RDS keeps only these two in it."""
    login = {
        "username": getattr(resource, "master_username", None) or DEFAULT_MASTER,
        "password": secrets.token_urlsafe(24),
    }
    return json.dumps(login)


def _new_resource_id() -> str:
    return "db-" + base64.b32encode(secrets.token_bytes(17)).decode()[:26]


def _has_server(instance: Any) -> bool:
    return (
        instance.engine == "postgres"
        and not instance.db_cluster_identifier
        and not instance.is_replica
        and NO_SERVER_TAG not in {tag["Key"] for tag in instance.tags}
    )


def _programs(wanted_version: str | None) -> Programs:
    """Return a PostgreSQL of the major version that was asked for, else the usual one."""
    if wanted_version:
        for programs in postgres_programs.available_programs():
            if str(programs.major) == str(wanted_version).split(".")[0]:
                return programs
    return postgres_programs.find_programs()


def _creating_seconds(instance: Any) -> float:
    tags = {tag["Key"]: tag["Value"] for tag in instance.tags}
    return float(tags.get(CREATING_SECONDS_TAG, 0))


def _refuse_unless_available(instance: Any) -> None:
    if instance.status != "available":
        raise InvalidDBInstanceStateFault(
            f"Instance {instance.db_instance_identifier} is not in available state."
        )


def _copy_of_data(instance: Any) -> Path | None:
    """Copy the data of the instance's server, which is stopped for that moment."""
    server = SERVERS.get(instance.dbi_resource_id) if instance else None
    if not server:
        return None
    target = _state().servers / f"copy-{secrets.token_hex(4)}" / "data"
    server.copy_data(target)
    return target


@contextmanager
def _made_from(origin: Origin) -> Iterator[None]:
    """Let instances that are created inside be made from *origin*."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def _put_event(instance: Any, event: Event) -> None:
    """Put *event* on the account's default bus, as RDS does."""
    arn = instance.db_instance_arn
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    detail = {
        "EventCategories": [event.category],
        "SourceType": "DB_INSTANCE",
        "SourceArn": arn,
        "Date": now.replace("+00:00", "Z"),
        "Message": event.message,
        "SourceIdentifier": instance.db_instance_identifier,
        "EventID": event.id,
    }
    entry = {
        "Source": "aws.rds",
        "DetailType": "RDS DB Instance Event",
        "Resources": [arn],
        "Detail": json.dumps(detail),
    }
    bus = connect_to(aws_access_key_id=instance.account_id, region_name=instance.region).events
    bus.put_events(Entries=[entry])


def _in_background(work: Callable[..., None], *args: Any) -> None:
    """Do *work* while the caller has its answer already, as AWS does."""

    def run() -> None:
        try:
            work(*args)
        except Exception:
            LOG.exception("%s failed", work.__name__)

    threading.Thread(target=run, daemon=True).start()


def _stop_all() -> None:
    for server in SERVERS.values():
        server.stop("immediate")
    shutil.rmtree(_state().servers, ignore_errors=True)


def _state() -> State:
    return State(Path(os.environ["DAY2_LOCAL_STATE"]))
