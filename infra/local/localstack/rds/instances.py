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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localstack.utils.patch import patch
from moto.rds import models as moto
from moto.rds.exceptions import InvalidDBInstanceStateFault, RDSClientError
from moto.rds.responses import RDSResponse

from infra.local.localstack.rds import rds_events, rules
from infra.local.postgres import engine_versions
from infra.local.postgres.programs import ServerError
from infra.local.postgres.server import Server
from infra.local.state import State, free_port, port_is_free

LOG = logging.getLogger("localstack.day2.rds")

# Holds an instance in ``creating`` for so many seconds, for those who test what waits for it.
CREATING_SECONDS_TAG = "day2-local:creating-seconds"
# Lets an instance be without a server, for those who need hundreds of instances.
NO_SERVER_TAG = "day2-local:no-server"

DEFAULT_MASTER = "postgres"

# What moto forgets of a request, by its name there and in the answer.
KEPT = {
    "enable_performance_insights": "performance_insights_enabled",
    "performance_insights_kms_key_id": "performance_insights_kms_key_id",
    "performance_insights_retention_period": "performance_insights_retention_period",
    "database_insights_mode": "database_insights_mode",
    "monitoring_interval": "monitoring_interval",
    "monitoring_role_arn": "monitoring_role_arn",
    "network_type": "network_type",
    "dedicated_log_volume": "dedicated_log_volume",
    "engine_lifecycle_support": "engine_lifecycle_support",
}


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
        _change_parameters,
        _change_secrets,
        _change_creation,
        _change_snapshots,
        _change_stop_and_start,
        _change_passwords,
        _change_deletion,
    ):
        change()
    atexit.register(_stop_all)


def _change_parameters() -> None:
    # What a request sets has this source; Terraform takes what has none for another's.
    for kind, name in (
        (moto.DBParameterGroup, "update_parameters"),
        (moto.DBClusterParameterGroup, "update_cluster_parameters"),
    ):

        @patch(getattr(kind, name))
        def _update(fn: Callable[..., None], group: Any, parameters: Any) -> None:
            fn(group, [{"Source": "user", **dict(one)} for one in parameters])

    # moto has tags of every other thing; Terraform asks for these, too.
    @patch(RDSResponse.create_db_cluster_parameter_group)
    def _create_with_tags(fn: Callable[..., Any], response: Any) -> Any:
        answer = fn(response)
        name = response.params["DBClusterParameterGroupName"]
        tags = response.params.get("Tags") or []
        response.backend.db_cluster_parameter_groups[name].add_tags(tags)
        return answer

    @patch(moto.RDSBackend._get_resource_for_tagging)
    def _find(fn: Callable[..., Any], backend: Any, arn: str) -> Any:
        name = arn.partition(":cluster-pg:")[2]
        return backend.db_cluster_parameter_groups.get(name) if name else fn(backend, arn)


def _change_creation() -> None:
    @patch(moto.DBInstance.__init__)
    def _begin_creating(fn: Callable[..., None], instance: Any, *args: Any, **kwargs: Any) -> None:
        fn(instance, *args, **kwargs)
        instance.status = "creating"
        instance.dbi_resource_id = _new_resource_id()
        asked = kwargs.get("port")
        instance.port = int(asked) if asked and port_is_free(int(asked)) else free_port()
        _keep_as_given(instance, kwargs)
        if instance.db_cluster_identifier:
            return
        if _has_server(instance):
            instance.master_username = instance.master_username or DEFAULT_MASTER
        # Without a wish moto takes 9.3.
        if instance.engine == rules.ENGINE and not kwargs.get("engine_version"):
            instance.engine_version = engine_versions.usual_version()

    @patch(moto.RDSBackend.create_db_instance)
    def _create(fn: Callable[..., Any], backend: Any, db_kwargs: dict[str, Any]) -> Any:
        origin = current_origin()
        if _gets_server(db_kwargs):
            db_kwargs = {
                **db_kwargs,
                "engine_version": version_for(db_kwargs.get("engine_version")),
            }
            _check_group(backend, db_kwargs)
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
        snapshot = backend.get_db_snapshot(snapshot_id)
        # moto gives it all that the original had.
        snapshot.database.tags = snapshot.tags
        with made_from(Origin(rds_events.RESTORED, snapshot.data)):
            return fn(backend, snapshot_id, overrides)

    @patch(moto.RDSBackend.restore_db_instance_to_point_in_time)
    def _restore_to_time(
        fn: Callable[..., Any], backend: Any, source: str, target: str, overrides: Any
    ) -> Any:
        original = backend.databases.get(source)
        data = _copy_of_data(original)
        with made_from(Origin(rds_events.RESTORED_TO_TIME, data)):
            restored = fn(backend, source, target, overrides)
        # By moto it is a replica of the original, and has all that that has.
        restored.source_db_instance_identifier = None
        if not original.copy_tags_to_snapshot:
            restored.tags = overrides.get("tags")
        return restored


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
        if wanted := db_kwargs.pop("engine_version", None):
            current = backend.describe_db_instances(db_instance_identifier)[0].engine_version
            with _as_rds_says():
                rules.check_upgrade(current, wanted, _versions())
        if changes.get("master_user_password") or changes.get("manage_master_user_password"):
            _refuse_unless_available(backend.describe_db_instances(db_instance_identifier)[0])
        instance = fn(backend, db_instance_identifier, db_kwargs)
        _keep_as_given(instance, changes)
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
    # Customer keys are LocalStack's, and moto knows its own alone.
    told = moto.MasterUserSecret.kms_key_id.fget

    def key_of(secret: Any) -> str:
        key = str(secret.secret.kms_key_id)
        if secret.kms.any_id_to_key_id(key) in secret.kms.keys:
            return str(told(secret))
        backend = secret.resource.backend
        place = f"arn:{backend.partition}:kms:{backend.region_name}:{backend.account_id}"
        return key if key.startswith("arn:") else f"{place}:key/{key}"

    moto.MasterUserSecret.kms_key_id = property(key_of)

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
    # Not where moto itself deletes one, as the green side of a deployment.
    @patch(RDSResponse.delete_db_instance)
    def _asked(fn: Callable[..., Any], response: Any) -> Any:
        asked = response.params
        (found,) = response.backend.describe_db_instances(asked["DBInstanceIdentifier"])
        # What a member or a replica has is its cluster's, or its source's.
        if not found.db_cluster_identifier and not found.is_replica:
            with _as_rds_says():
                rules.check_final_snapshot(
                    asked.get("FinalDBSnapshotIdentifier"),
                    is_skipped=bool(asked.get("SkipFinalSnapshot")),
                )
        return fn(response)

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
        programs=engine_versions.programs_of(keeper.engine_version),
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
    return not instance.is_replica and _gets_server(vars(instance))


def _gets_server(given: Mapping[str, Any]) -> bool:
    return (
        given["engine"] == rules.ENGINE
        and not given.get("db_cluster_identifier")
        and NO_SERVER_TAG not in {tag["Key"] for tag in given.get("tags") or ()}
    )


def _versions() -> list[str]:
    return [offer.version for offer in engine_versions.offers()]


def version_for(wanted: str | None, engine: str = rules.ENGINE) -> str:
    """Return the version that a new instance or cluster gets, whose programs are here then."""
    if not wanted:
        return engine_versions.usual_version()
    with _as_rds_says():
        version = rules.version_of(wanted, _versions(), engine)
    try:
        engine_versions.programs_of(version)
    except ServerError as error:
        LOG.exception("no programs of %s", version)
        raise RDSClientError(
            "InvalidParameterCombination",
            f"Cannot find version {wanted} for {engine} (this local AWS: {error})",
        ) from error
    return version


def _check_group(backend: Any, given: Mapping[str, Any]) -> None:
    """Refuse a parameter group of another version; one that is not there, moto refuses."""
    name = given.get("db_parameter_group_name")
    if not name:
        return
    group = backend.db_parameter_groups.get(name)
    family = (
        name.removeprefix("default.") if name.startswith("default.") else group and group.family
    )
    if family:
        with _as_rds_says():
            rules.check_group(name, family, given["engine_version"])


@contextmanager
def _as_rds_says() -> Iterator[None]:
    """Answer a refusal of RDS's rules as moto answers its own."""
    try:
        yield
    except rules.RefusedError as error:
        raise RDSClientError(error.code, str(error)) from error


def _keep_as_given(instance: Any, given: dict[str, Any]) -> None:
    """Keep what a request says and moto forgets, or keeps by another name than it tells."""
    for name, told in KEPT.items():
        if given.get(name) is not None:
            setattr(instance, told, given[name])
    if given.get("enable_performance_insights"):
        days = given.get("performance_insights_retention_period")
        instance.performance_insights_retention_period = days or 7


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
