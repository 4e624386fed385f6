"""
Real PostgreSQL servers behind every PostgreSQL cluster that moto pretends to have.

The first member's server is written to; each other member's streams from it and is in recovery.
A failover stops the writer, promotes a reader, and has the old writer come back as one: what was
committed is kept, and what was connected is cut, as on AWS.  The cluster's endpoints lead to
whichever server serves them at the moment.
"""

# ruff: noqa: SLF001 - moto has no public way to most of this, and its version is pinned.

from __future__ import annotations

import copy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from localstack.utils.patch import patch
from moto.rds import models as moto
from moto.rds.exceptions import (
    DBClusterNotFoundError,
    DBClusterSnapshotAlreadyExistsError,
    InvalidDBClusterStateFault,
    RDSClientError,
)

from infra.local.localstack.rds import rds_events
from infra.local.localstack.rds.cluster_endpoint import Endpoint
from infra.local.localstack.rds.instances import (
    NEW,
    SERVERS,
    Origin,
    creating_seconds,
    current_origin,
    in_background,
    made_from,
    make_server,
    new_data_folder,
    server_of,
    set_master_password,
    version_for,
)
from infra.local.postgres.engine_versions import usual_version
from infra.local.postgres.server import Server
from infra.local.state import free_port, port_is_free

# Seconds for which the endpoint still names the old writer once a failover is through.
ENDPOINT_LAG_TAG = "day2-local:endpoint-lag-seconds"
# Seconds without a connection after which a cluster that may sleep does, for the 300 and more
# that AWS has; and those that its resuming takes.
PAUSE_TAG = "day2-local:pause-seconds"
RESUME_TAG = "day2-local:resume-seconds"

ENGINES = ("aurora-postgresql", "postgres")
READER_HOST = "127.0.0.2"
MEMBERS_OF_MULTI_AZ = 3
WAIT_SECONDS = 60.0


@dataclass
class Cluster:
    """
    What is behind one of moto's clusters.

    Attributes:
        shown: moto's own.
        data: What the cluster's volume holds while no member serves it.
        upstream: The server that the writer itself streams from, of a green cluster.
        is_announced: Its created event is on the bus.
        is_asleep: Its servers are stopped until somebody connects.
        named: The member that the writer's endpoint leads to.
    """

    shown: Any
    data: Path | None = None
    upstream: Server | None = None
    is_announced: bool = False
    is_asleep: bool = False
    is_gone: bool = False
    named: Any = None
    lock: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        hosts = [Server.host, *([READER_HOST] if _has_address(READER_HOST) else [])]
        self.endpoints = [Endpoint(host, self.shown.port) for host in hosts]
        self._aim()

    def _aim(self) -> None:
        """Have the endpoints lead to this cluster's servers."""
        turn = count()

        def a_reader() -> int | None:
            self.wake()
            ports = [one.port for one in self._running() if one is not self.named]
            return int(ports[next(turn) % len(ports)] if ports else self.named.port)

        def the_writer() -> int | None:
            self.wake()
            return int(self.named.port) if self.named else None

        for endpoint, target in zip(self.endpoints, (the_writer, a_reader), strict=False):
            endpoint.target = target

    # Its beginning

    def finish_creating(self) -> None:
        """Become available and say so; a Multi-AZ cluster when its members are there."""
        time.sleep(creating_seconds(self.shown))
        with self.lock:
            if is_multi_az(self.shown):
                self._wait(lambda: len([*self._running()]) == MEMBERS_OF_MULTI_AZ)
            self.shown.status = "available"
            rds_events.put(self.shown, rds_events.CLUSTER_CREATED)
            self.is_announced = True
            self.lock.notify_all()

    def add(self, member: Any) -> None:
        """Give *member* its server, make it available and say so."""
        time.sleep(creating_seconds(member))
        with self.lock:
            if not is_multi_az(self.shown):
                self._wait(lambda: self.is_announced)
            if not member.is_cluster_writer:
                self._wait(lambda: server_of(self.shown) or not has_servers(self.shown))
            if self.is_gone or member.status == "deleting":
                return
            if has_servers(self.shown):
                is_first = member.is_cluster_writer
                primary = self.upstream if is_first else server_of(self.shown)
                try:
                    SERVERS[member.dbi_resource_id] = make_server(
                        member, self.shown, source=self.data, primary=primary
                    )
                except Exception:
                    member.status = "failed"
                    raise
            member.status = "available"
            if member.is_cluster_writer:
                self._name(member)
            rds_events.put(member, rds_events.CREATED)
            self.lock.notify_all()

    # Its changes

    def fail_over(self, old: Any, new: Any) -> None:
        """Make *new* the writer and *old* a reader, as AWS does when it is asked to."""
        with self.lock:
            rds_events.put(
                self.shown, rds_events.FAILOVER_STARTED.about(new.db_instance_identifier)
            )
            self._refuse()
            SERVERS[old.dbi_resource_id].stop()
            self._promote(new)
            rds_events.put(new, rds_events.RESTARTED)
            SERVERS[old.dbi_resource_id].follow(SERVERS[new.dbi_resource_id])
            rds_events.put(old, rds_events.RESTARTED)
            lag = _seconds(self.shown, ENDPOINT_LAG_TAG)
            self._name(old if lag else new)
            self.shown.status = "available"
            rds_events.put(
                self.shown, rds_events.FAILOVER_COMPLETED.about(new.db_instance_identifier)
            )
        time.sleep(lag)
        with self.lock:
            if new is self.shown.writer:
                self._name(new)

    def remove(self, member: Any) -> None:
        """Take *member*'s server away; the data of the last one stays with the cluster."""
        with self.lock:
            if server := SERVERS.pop(member.dbi_resource_id, None):
                if member.is_cluster_writer:
                    self._refuse()
                    server.stop()
                    self._succeed(server)
                server.remove()
            self.lock.notify_all()
        rds_events.put(member, rds_events.DELETED)

    def _succeed(self, server: Server) -> None:
        """Have another member take the place of the writer, or keep the data of its *server*."""
        self.named = None
        self.shown.designate_writer()
        if server_of(self.shown):
            self._promote(self.shown.writer)
            self._name(self.shown.writer)
        else:
            self.data = new_data_folder()
            self.data.parent.mkdir()
            server.data.rename(self.data)

    def _promote(self, member: Any) -> None:
        """Have *member* written to, and every other one that runs follow it."""
        server = SERVERS[member.dbi_resource_id]
        server.promote()
        for other in self._running():
            if other is not member:
                SERVERS[other.dbi_resource_id].follow(server)

    def move(self, how: Callable[[Server], None], status: str, *events: rds_events.Event) -> None:
        """Do *how* with all servers, then show *status* and tell of the members and of itself."""
        with self.lock:
            self._refuse()
            self._each(how)
            self.is_asleep = False
            of_member, of_cluster = events
            for member in self.shown._members:
                member.status = status
                rds_events.put(member, of_member)
            if status == "available" and self.shown.writer:
                self._name(self.shown.writer)
            self.shown.status = status
            rds_events.put(self.shown, of_cluster)

    def _each(self, how: Callable[[Server], None]) -> None:
        """Do *how* with each server, the writer's first: a reader gets all that it wrote."""
        members = sorted(self.shown._members, key=lambda one: not one.is_cluster_writer)
        for member in members:
            if server := SERVERS.get(member.dbi_resource_id):
                how(server)

    def switch_over(self, green: Cluster) -> None:
        """Have the cluster *green*, which streams from this one, take its place and address."""
        with self.lock, green.lock:
            self._refuse()
            green._refuse()
            self._each(Server.stop)
            green._promote(green.shown.writer)
            self.shown.port, green.shown.port = green.shown.port, self.shown.port
            self.endpoints, green.endpoints = green.endpoints, self.endpoints
            self._each(Server.start)
            for one in (self, green):
                one._aim()
                one._name(one.shown.writer)

    # Its sleep

    def doze(self) -> None:
        """Sleep whenever nobody was connected for long enough, as long as there is a cluster."""
        while not self.is_gone and (seconds := _pause_seconds(self.shown)) is not None:
            time.sleep(0.1)
            with self.lock:
                idle = [one.idle_since for one in self.endpoints]
                is_idle = all(one and one < time.monotonic() - seconds for one in idle)
                if is_idle and self.named and not self.is_asleep:
                    self.is_asleep = True
                    self._each(Server.stop)
                    self._tell_members(rds_events.PAUSED)

    def wake(self) -> None:
        """Start the servers if they sleep."""
        if not self.is_asleep:
            return
        with self.lock:
            if self.is_asleep:
                time.sleep(_seconds(self.shown, RESUME_TAG))
                self._each(Server.start)
                self.is_asleep = False
                self._tell_members(rds_events.RESUMED)

    def _tell_members(self, event: rds_events.Event) -> None:
        for member in self._running():
            rds_events.put(member, event)

    # Its endpoints

    def _name(self, member: Any) -> None:
        """Have the writer's endpoint lead to *member*, if there is a server."""
        if member.dbi_resource_id in SERVERS:
            self.named = member
            for one in self.endpoints:
                one.open()

    def listen_at(self, port: int) -> None:
        """Have the endpoints at another *port* from now on."""
        with self.lock:
            self._refuse()
            for one in self.endpoints:
                one.port = port
                if self.named and self.shown.status == "available":
                    one.open()

    def _refuse(self) -> None:
        for one in self.endpoints:
            one.refuse()

    def end(self) -> None:
        """Be gone, with its endpoints."""
        with self.lock:
            self.is_gone = True
            self._refuse()
            self.lock.notify_all()
        rds_events.put(self.shown, rds_events.CLUSTER_DELETED)

    def _running(self) -> Iterator[Any]:
        """Yield each member that has a server."""
        return (one for one in self.shown._members if one.dbi_resource_id in SERVERS)

    def _wait(self, condition: Callable[[], object]) -> None:
        """Wait for *condition*; the caller holds the lock."""
        if not self.lock.wait_for(lambda: condition() or self.is_gone, WAIT_SECONDS):
            raise TimeoutError(f"cluster {self.shown.db_cluster_identifier} was not ready in time")


# By DbClusterResourceId, which survives a new name and is never used again.
CLUSTERS: dict[str, Cluster] = {}


def put_servers_behind_clusters() -> None:
    """Change moto's classes, once, after those of instances."""
    moto.DBCluster.endpoint = Server.host
    moto.DBCluster.reader_endpoint = READER_HOST
    # moto's own is "creating" until it is read.
    moto.DBCluster.status = property(
        lambda cluster: cluster._status,
        lambda cluster, value: setattr(cluster, "_status", value),
    )
    # AWS tells of Serverless v1 what moto tells of every cluster, without values; Terraform would
    # take that away at each apply.
    told = moto.DBCluster.scaling_configuration_info.fget
    moto.DBCluster.scaling_configuration_info = property(
        lambda cluster: told(cluster) if cluster.scaling_configuration else None
    )
    for change in (
        _change_creation,
        _change_snapshots,
        _change_modification,
        _change_stop_and_start,
        _change_failover,
        _change_deletion,
    ):
        change()


def has_servers(cluster: Any) -> bool:
    """Tell whether *cluster* runs PostgreSQL."""
    return str(cluster.engine) in ENGINES


def is_multi_az(cluster: Any) -> bool:
    """Tell whether *cluster* is a Multi-AZ DB cluster, whose members RDS makes itself."""
    return str(cluster.engine) == "postgres"


def _change_creation() -> None:
    @patch(moto.DBCluster.__init__)
    def _begin_creating(fn: Callable[..., None], cluster: Any, *args: Any, **kwargs: Any) -> None:
        fn(cluster, *args, **kwargs)
        asked = int(kwargs.get("port") or 0)
        cluster.port = asked if asked and port_is_free(asked) else free_port()
        if has_servers(cluster):
            # Without a wish moto takes one of its own.
            cluster.engine_version = kwargs.get("engine_version") or usual_version()

    @patch(moto.RDSBackend.create_db_cluster)
    def _create(fn: Callable[..., Any], backend: Any, kwargs: dict[str, Any]) -> Any:
        origin = current_origin()
        if kwargs["db_cluster_identifier"] in backend.clusters:
            raise RDSClientError("DBClusterAlreadyExistsFault", "DB Cluster already exists")
        of_global = backend.global_clusters.get(kwargs.get("global_cluster_identifier") or "")
        if of_global is not None and of_global.members:
            raise RDSClientError(
                "InvalidParameterCombination",
                "The local AWS plays no secondary cluster: a global cluster has its primary only.",
            )
        if (engine := kwargs.get("engine")) in ENGINES:
            kwargs = {**kwargs, "engine_version": version_for(kwargs.get("engine_version"), engine)}
        cluster = fn(backend, kwargs)
        asked = copy.copy(cluster)
        ours = Cluster(cluster, origin.data, origin.primary)
        CLUSTERS[cluster.db_cluster_resource_id] = ours
        if is_multi_az(cluster):
            with made_from(NEW):
                _make_members(backend, cluster)
        in_background(ours.finish_creating)
        in_background(ours.doze)
        return asked

    @patch(moto.RDSBackend.create_db_instance)
    def _create_member(fn: Callable[..., Any], backend: Any, db_kwargs: dict[str, Any]) -> Any:
        instance = fn(backend, db_kwargs)
        if instance.db_cluster_identifier:
            in_background(behind(instance.cluster).add, instance)
        return instance

    @patch(moto.RDSBackend.create_global_cluster)
    def _create_global(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        found = fn(backend, *args, **kwargs)
        # moto tells so of a primary only that is made as one.
        for primary in found.members:
            primary.is_writer = True
        return found


def _make_members(backend: Any, cluster: Any) -> None:
    for number in range(MEMBERS_OF_MULTI_AZ):
        backend.create_db_instance(
            {
                "db_instance_identifier": f"{cluster.resource_id}-instance-{number + 1}",
                "db_instance_class": cluster.db_cluster_instance_class,
                "db_cluster_identifier": cluster.resource_id,
                "engine": cluster.engine,
                "availability_zone": cluster.region + "abc"[number],
            }
        )


def _change_snapshots() -> None:
    @patch(moto.RDSBackend.create_db_cluster_snapshot)
    def _snapshot(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        snapshot = fn(backend, *args, **kwargs)
        is_manual = snapshot.snapshot_type == "manual"
        snapshot.data = _copy_of_data(snapshot.cluster) if is_manual else None
        return snapshot

    @patch(moto.RDSBackend.copy_db_cluster_snapshot)
    def _copy_snapshot(
        fn: Callable[..., Any], backend: Any, source: str, *args: Any, **kwargs: Any
    ) -> Any:
        snapshot = fn(backend, source, *args, **kwargs)
        snapshot.data = backend.get_db_cluster_snapshot(source).data
        return snapshot

    @patch(moto.RDSBackend.restore_db_cluster_from_snapshot)
    def _restore(
        _fn: Callable[..., Any], backend: Any, snapshot_id: str, overrides: dict[str, Any]
    ) -> Any:
        (snapshot,) = backend.describe_db_cluster_snapshots(None, snapshot_id)
        with made_from(Origin(data=snapshot.data)):
            return backend.create_db_cluster(_like(snapshot.cluster, overrides))

    @patch(moto.RDSBackend.restore_db_cluster_to_point_in_time)
    def _restore_to_time(
        _fn: Callable[..., Any],
        backend: Any,
        db_cluster_identifier: str,
        source_db_cluster_identifier: str,
        **overrides: Any,
    ) -> Any:
        (source,) = backend.describe_db_clusters(source_db_cluster_identifier)
        overrides["db_cluster_identifier"] = db_cluster_identifier
        with made_from(Origin(data=_copy_of_data(source))):
            return backend.create_db_cluster(_like(source, overrides))


def _like(cluster: Any, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the request for a cluster like *cluster* but for the *overrides*."""
    if cluster.manage_master_user_password:
        login: dict[str, Any] = {"manage_master_user_password": True}
    else:
        login = {"master_user_password": cluster._master_user_password}
    return {
        "engine": cluster.engine,
        "engine_version": cluster.engine_version,
        "master_username": cluster.master_username,
        "database_name": cluster.database_name,
        "db_cluster_instance_class": cluster.db_cluster_instance_class,
        "storage_encrypted": cluster.storage_encrypted,
        "kms_key_id": cluster.kms_key_id,
        **login,
        **{name: value for name, value in overrides.items() if value is not None},
    }


def _copy_of_data(cluster: Any) -> Path | None:
    """Copy what the cluster's volume holds now."""
    server = server_of(cluster)
    if not server:
        return behind(cluster).data
    target = new_data_folder()
    if server.pid:
        server.back_up(target)
    else:
        server.copy_data(target)
    return target


def _change_modification() -> None:
    @patch(moto.RDSBackend.modify_db_cluster)
    def _modify(fn: Callable[..., Any], backend: Any, kwargs: dict[str, Any]) -> Any:
        cluster = _found(backend, kwargs["db_cluster_identifier"])
        before, status = cluster.db_cluster_identifier, cluster.status
        port = int(kwargs.get("port") or cluster.port)
        is_moved = port != cluster.port
        if is_moved and not port_is_free(port):
            raise RDSClientError("InvalidParameterValue", f"Port {port} is taken on this machine.")
        may_sleep = _pause_seconds(cluster) is not None
        sets_password = bool(
            kwargs.get("master_user_password") or kwargs.get("manage_master_user_password")
        )
        behind(cluster).wake()
        fn(backend, kwargs)
        cluster.status = status
        if is_moved:
            behind(cluster).listen_at(port)
        if sets_password:
            set_master_password(cluster)
        if cluster.db_cluster_identifier != before:
            for member in backend.databases.values():
                if member.db_cluster_identifier == before:
                    member.db_cluster_identifier = cluster.db_cluster_identifier
            rds_events.put(
                cluster, rds_events.CLUSTER_RENAMED.about(before, cluster.db_cluster_identifier)
            )
        if not may_sleep and _pause_seconds(cluster) is not None:
            in_background(behind(cluster).doze)
        return cluster


def _change_stop_and_start() -> None:
    def begin(backend: Any, identifier: str, needed: str, status: str) -> Cluster:
        cluster = _found(backend, identifier)
        _refuse_unless(cluster, needed)
        cluster.status = status
        for member in cluster._members:
            member.status = status
        return behind(cluster)

    # RDS API, StopDBInstance and StartDBInstance: members are stopped with their cluster only.
    for name in ("stop_db_instance", "start_db_instance"):

        @patch(getattr(moto.RDSBackend, name))
        def _of_instance(
            fn: Callable[..., Any], backend: Any, identifier: str, *args: Any, **kwargs: Any
        ) -> Any:
            (instance,) = backend.describe_db_instances(identifier)
            if instance.db_cluster_identifier:
                raise InvalidDBClusterStateFault(
                    f"{identifier} is a member of the cluster {instance.db_cluster_identifier}, "
                    "with which it is stopped and started."
                )
            return fn(backend, identifier, *args, **kwargs)

    @patch(moto.RDSBackend.stop_db_cluster)
    def _stop(_fn: Callable[..., Any], backend: Any, cluster_identifier: str) -> Any:
        ours = begin(backend, cluster_identifier, "available", "stopping")
        events = rds_events.STOPPED, rds_events.CLUSTER_STOPPED
        in_background(ours.move, Server.stop, "stopped", *events)
        return copy.copy(ours.shown)

    @patch(moto.RDSBackend.start_db_cluster)
    def _start(_fn: Callable[..., Any], backend: Any, cluster_identifier: str) -> Any:
        ours = begin(backend, cluster_identifier, "stopped", "starting")
        events = rds_events.STARTED, rds_events.CLUSTER_STARTED
        in_background(ours.move, Server.start, "available", *events)
        return copy.copy(ours.shown)


def _change_failover() -> None:
    @patch(moto.RDSBackend.failover_db_cluster)
    def _fail_over(fn: Callable[..., Any], backend: Any, **kwargs: Any) -> Any:
        cluster = _found(backend, kwargs["db_cluster_identifier"])
        _refuse_unless(cluster, "available")
        old = cluster.writer
        behind(cluster).wake()
        fn(backend, **kwargs)
        if cluster.writer is not old:
            cluster.status = "failing-over"
            in_background(behind(cluster).fail_over, old, cluster.writer)
        return copy.copy(cluster)


def _change_deletion() -> None:
    @patch(moto.RDSBackend.delete_db_instance)
    def _delete_member(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        instance = fn(backend, *args, **kwargs)
        if instance.db_cluster_identifier:
            in_background(behind(instance.cluster).remove, instance)
        return instance

    @patch(moto.RDSBackend.delete_db_cluster)
    def _delete(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        cluster = _found(backend, args[0] if args else kwargs["cluster_identifier"])
        # moto sees it once the managed secret is gone.
        if (snapshot := kwargs.get("snapshot_name") or "") in backend.cluster_snapshots:
            raise DBClusterSnapshotAlreadyExistsError(snapshot)
        if is_multi_az(cluster) and not cluster.deletion_protection:
            for member in cluster._members:
                backend.delete_db_instance(member.db_instance_identifier)
        fn(backend, *args, **kwargs)
        cluster.status = "deleting"
        for name, snapshot in list(backend.cluster_snapshots.items()):
            if snapshot.cluster.arn == cluster.arn and snapshot.snapshot_type == "automated":
                del backend.cluster_snapshots[name]
        in_background(behind(cluster).end)
        return cluster


def behind(cluster: Any) -> Cluster:
    """Return what is behind moto's *cluster*."""
    return CLUSTERS[cluster.db_cluster_resource_id]


def _found(backend: Any, identifier: str) -> Any:
    """Return the cluster *identifier*, or answer as AWS does where there is none."""
    if identifier not in backend.clusters:
        raise DBClusterNotFoundError(identifier)
    return backend.clusters[identifier]


def _refuse_unless(cluster: Any, status: str) -> None:
    if cluster.status != status:
        raise InvalidDBClusterStateFault(
            f"DbCluster {cluster.db_cluster_identifier} is in {cluster.status} state "
            f"but expected it to be one of {status}."
        )


def _pause_seconds(cluster: Any) -> float | None:
    """Return after how long without connections *cluster* sleeps; None where it never does."""
    scaling = cluster.serverless_v2_scaling_configuration or {}
    if scaling.get("min_capacity") != 0:
        return None
    # RDS API, ServerlessV2ScalingConfiguration: 300 where nothing is said.
    return _seconds(cluster, PAUSE_TAG, float(scaling.get("seconds_until_auto_pause") or 300))


def _seconds(cluster: Any, tag: str, usual: float = 0) -> float:
    tags = {one["Key"]: one["Value"] for one in cluster.tags}
    return float(tags.get(tag, usual))


def _has_address(host: str) -> bool:
    """Tell whether this machine answers at *host*; macOS has to be told of 127.0.0.2."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
