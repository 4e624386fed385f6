"""
A real PostgreSQL server behind every PostgreSQL instance that moto pretends to have.

moto answers the RDS API and keeps its objects in LocalStack's process, so a managed master secret
is one that the emulated Secrets Manager serves.  Here its classes get what AWS does besides: the
server, the way through ``creating`` to ``available``, and the event on the bus once it is there.
Members of clusters get theirs from ``clusters.py``; replicas and other engines have none.
"""

# ruff: noqa: SLF001 - moto has no public way to most of this, and its version is pinned.

import atexit
import base64
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

from localstack.utils.patch import patch
from moto.rds import models as moto
from moto.rds.exceptions import InvalidDBInstanceStateFault

from infra.local import postgres_programs
from infra.local.localstack import rds_events
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
class Origin:
    """What a new instance or cluster is made from: nothing, a copy of data, or a server."""

    event: rds_events.Event = rds_events.CREATED
    data: Path | None = None
    primary: Server | None = None


NEW = Origin()
_origin: ContextVar[Origin] = ContextVar("origin", default=NEW)

# By DbiResourceId, which survives a new name and is never used again.
SERVERS: dict[str, Server] = {}


def put_servers_behind_moto() -> None:
    """Change moto's classes, once."""
    moto.DBInstance.address = Server.host
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
        if instance.db_cluster_identifier:
            return
        if _has_server(instance):
            instance.master_username = instance.master_username or DEFAULT_MASTER
        wanted = kwargs.get("engine_version")
        # Without a wish moto takes 9.3.
        if instance.engine == "postgres" and (_has_server(instance) or not wanted):
            instance.engine_version = programs_for(wanted).version

    @patch(moto.RDSBackend.create_db_instance)
    def _create(fn: Callable[..., Any], backend: Any, db_kwargs: dict[str, Any]) -> Any:
        origin = current_origin()
        instance = fn(backend, db_kwargs)
        if not instance.db_cluster_identifier:
            in_background(_finish_creating, instance, origin)
        return instance

    @patch(moto.RDSBackend.create_db_instance_read_replica)
    def _create_replica(fn: Callable[..., Any], backend: Any, db_kwargs: dict[str, Any]) -> Any:
        replica = fn(backend, db_kwargs)
        # moto made a shallow copy of the primary.
        replica.dbi_resource_id = _new_resource_id()
        replica.port = free_port()
        replica.tags = list(db_kwargs.get("tags") or [])
        rds_events.put(replica, rds_events.CREATED)
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
        with made_from(Origin(rds_events.RESTORED, data)):
            return fn(backend, snapshot_id, overrides)

    @patch(moto.RDSBackend.restore_db_instance_to_point_in_time)
    def _restore_to_time(
        fn: Callable[..., Any], backend: Any, source: str, target: str, overrides: Any
    ) -> Any:
        data = _copy_of_data(backend.databases.get(source))
        with made_from(Origin(rds_events.RESTORED_TO_TIME, data)):
            return fn(backend, source, target, overrides)


def _change_stop_and_start() -> None:
    @patch(moto.RDSBackend.stop_db_instance)
    def _stop(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        instance.status = "stopping"
        in_background(_move, instance, Server.stop, "stopped", rds_events.STOPPED)
        return instance

    @patch(moto.RDSBackend.start_db_instance)
    def _start(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        instance.status = "starting"
        in_background(_move, instance, Server.start, "available", rds_events.STARTED)
        return instance

    @patch(moto.RDSBackend.reboot_db_instance)
    def _reboot(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        _refuse_unless_available(instance)
        instance.status = "rebooting"

        def restart(server: Server) -> None:
            server.stop()
            server.start()

        in_background(_move, instance, restart, "available", rds_events.RESTARTED)
        return instance


def _change_passwords() -> None:
    @patch(moto.RDSBackend.modify_db_instance)
    def _modify(
        fn: Callable[..., Any], backend: Any, db_instance_identifier: str, db_kwargs: Any
    ) -> Any:
        changes = dict(db_kwargs)
        if changes.get("master_user_password") or changes.get("manage_master_user_password"):
            _refuse_unless_available(backend.describe_db_instances(db_instance_identifier)[0])
        instance = fn(backend, db_instance_identifier, db_kwargs)
        if changes.get("master_user_password") or changes.get("manage_master_user_password"):
            set_master_password(instance)
        if changes.get("new_db_instance_identifier"):
            status, instance.status = instance.status, "renaming"
            in_background(_finish_renaming, instance, status)
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
        set_master_password(secret.resource)


def _change_deletion() -> None:
    @patch(moto.RDSBackend.delete_db_instance)
    def _delete(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        if instance.db_cluster_identifier:
            return instance
        server = SERVERS.pop(instance.dbi_resource_id, None)

        def finish() -> None:
            if server:
                server.remove()
            rds_events.put(instance, rds_events.DELETED)

        in_background(finish)
        return instance


def _finish_creating(instance: Any, origin: Origin) -> None:
    """Give the instance its server, make it available and say so."""
    time.sleep(creating_seconds(instance))
    if _has_server(instance):
        try:
            server = make_server(instance, instance, source=origin.data, primary=origin.primary)
        except Exception:
            instance.status = "failed"
            raise
        if instance.status == "deleting":
            server.remove()
            return
        SERVERS[instance.dbi_resource_id] = server
    instance.status = "available"
    rds_events.put(instance, origin.event)


def _finish_renaming(instance: Any, status: str) -> None:
    """Be what it was before, by its new name, and say so as after any restart."""
    instance.status = status
    rds_events.put(instance, rds_events.RESTARTED)


def make_server(
    instance: Any, keeper: Any, *, source: Path | None = None, primary: Server | None = None
) -> Server:
    """Make the server of *instance*; its master is kept by itself or by its cluster, *keeper*."""
    files = state()
    return Server.create(
        files.servers / instance.dbi_resource_id,
        certificate=(files.tls / "server.crt", files.tls / "server.key"),
        master=keeper.master_username,
        master_password=master_password(keeper),
        database=instance.db_name,
        programs=programs_for(keeper.engine_version),
        port=instance.port,
        source=source,
        primary=primary,
    )


def _move(
    instance: Any, how: Callable[[Server], None], status: str, event: rds_events.Event
) -> None:
    """Do *how* with the instance's server, then show *status* and say so."""
    if server := SERVERS.get(instance.dbi_resource_id):
        how(server)
    instance.status = status
    rds_events.put(instance, event)


def set_master_password(resource: Any) -> None:
    """Make the password of the server, or of the cluster's writer, the one that RDS has now."""
    if server := server_of(resource):
        server.set_password(resource.master_username, master_password(resource))
        is_cluster = isinstance(resource, moto.DBCluster)
        rds_events.put(
            resource,
            rds_events.CLUSTER_NEW_PASSWORD if is_cluster else rds_events.NEW_PASSWORD,
        )


def server_of(resource: Any) -> Server | None:
    """Return the server of an instance, or the one that a cluster is written by."""
    instance = resource.writer if isinstance(resource, moto.DBCluster) else resource
    return SERVERS.get(instance.dbi_resource_id) if instance else None


def master_password(instance: Any) -> str:
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


def programs_for(wanted_version: str | None) -> Programs:
    """Return a PostgreSQL of the major version that was asked for, else the usual one."""
    if wanted_version:
        for programs in postgres_programs.available_programs():
            if str(programs.major) == str(wanted_version).split(".")[0]:
                return programs
    return postgres_programs.find_programs()


def creating_seconds(resource: Any) -> float:
    """Return for how long an instance or a cluster is held in ``creating``."""
    tags = {tag["Key"]: tag["Value"] for tag in resource.tags}
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
    target = new_data_folder()
    server.copy_data(target)
    return target


def new_data_folder() -> Path:
    """Return where a copy of a server's data can be put."""
    return state().servers / f"copy-{secrets.token_hex(4)}" / "data"


def current_origin() -> Origin:
    """Return what is made now is made from."""
    return _origin.get()


@contextmanager
def made_from(origin: Origin) -> Iterator[None]:
    """Let instances that are created inside be made from *origin*."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def in_background(work: Callable[..., None], *args: Any) -> None:
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
    shutil.rmtree(state().servers, ignore_errors=True)


def state() -> State:
    """Return the state folder of this local AWS."""
    return State(Path(os.environ["DAY2_LOCAL_STATE"]))
