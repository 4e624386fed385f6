"""
Blue/green deployments: the green side is a real server that streams from the blue one.

At the switchover it is promoted and takes the blue one's name and address; the blue one stays, as
``…-old1``, at the address that the green one had.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from localstack.utils.patch import patch
from moto.rds import models as moto
from moto.rds.exceptions import InvalidBlueGreenDeploymentStateFault, RDSClientError

from infra.local.localstack.rds import rds_events
from infra.local.localstack.rds.clusters import behind
from infra.local.localstack.rds.instances import (
    SERVERS,
    Origin,
    in_background,
    made_from,
    server_of,
)

WAIT_SECONDS = 60.0

States = moto.BlueGreenDeployment.SupportedStates


def put_servers_behind_deployments() -> None:
    """Change moto's classes, once, after those of instances and clusters."""
    moto.BlueGreenDeployment.resource_type = "deployment"

    @patch(moto.RDSBackend.create_blue_green_deployment)
    def _create(fn: Callable[..., Any], backend: Any, bg_kwargs: dict[str, Any]) -> Any:
        blue = _side(backend, bg_kwargs["source"])
        _refuse_another_major(blue, bg_kwargs.get("target_engine_version"))
        with made_from(Origin(primary=server_of(blue) if blue else None)):
            asked = fn(backend, bg_kwargs)
        deployment = backend.blue_green_deployments[asked.blue_green_deployment_identifier]
        deployment.set_status(States.PROVISIONING)
        in_background(_finish_creating, backend, deployment)
        return asked

    @patch(moto.RDSBackend.switchover_blue_green_deployment)
    def _switch_over(
        _fn: Callable[..., Any],
        backend: Any,
        blue_green_deployment_identifier: str,
        **_timeout: Any,
    ) -> Any:
        (deployment,) = backend.describe_blue_green_deployments(blue_green_deployment_identifier)
        if deployment.status != States.AVAILABLE.name:
            raise InvalidBlueGreenDeploymentStateFault(blue_green_deployment_identifier)
        deployment.set_status(States.SWITCHOVER_IN_PROGRESS)
        in_background(_finish_switchover, backend, deployment)
        return copy.copy(deployment)

    @patch(moto.RDSBackend.delete_blue_green_deployment)
    def _delete(fn: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        deployment = fn(backend, *args, **kwargs)
        rds_events.put(deployment, rds_events.DEPLOYMENT_DELETED)
        return deployment


def _refuse_another_major(blue: Any, target: str | None) -> None:
    """Refuse what only logical replication can do; RDS itself takes it."""
    if blue and target and target.split(".")[0] != blue.engine_version.split(".")[0]:
        raise RDSClientError(
            "InvalidParameterCombination",
            f"This local AWS plays no upgrade from {blue.engine_version} to {target}: "
            "its green side streams, so it stays within a major version",
        )


def _finish_creating(backend: Any, deployment: Any) -> None:
    """Be available once all of the green side is."""
    green = _side(backend, deployment.target)
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(one.status == "available" for one in (green, *_members(green))):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{green.resource_id} was not available in time")
        time.sleep(0.05)
    deployment.set_status(States.AVAILABLE)
    rds_events.put(deployment, rds_events.DEPLOYMENT_READY)


def _finish_switchover(backend: Any, deployment: Any) -> None:
    """Have the green side take the place of the blue one, and say so."""
    blue, green = (_side(backend, arn) for arn in (deployment.source, deployment.target))
    names = blue.resource_id, green.resource_id
    rds_events.put(deployment, rds_events.SWITCHOVER_STARTED.about(*names))
    if isinstance(blue, moto.DBCluster):
        behind(blue).switch_over(behind(green))
    else:
        _exchange(blue, green)
    pairs = [*zip(_members(blue), _members(green), strict=True)]
    deployment.switchover()
    for old, new in pairs:
        name = old.db_instance_identifier
        for member, renamed in ((old, f"{name}-old1"), (new, name)):
            backend.databases[renamed] = backend.databases.pop(member.db_instance_identifier)
            member.db_instance_identifier = renamed
    rds_events.put(deployment, rds_events.SWITCHOVER_COMPLETED)


def _exchange(blue: Any, green: Any) -> None:
    """Promote the server of the instance *green*, and have both exchange their addresses."""
    old, new = SERVERS[blue.dbi_resource_id], SERVERS[green.dbi_resource_id]
    old.stop()
    new.promote()
    new.stop()
    blue.port, green.port = green.port, blue.port
    for instance, server in ((green, new), (blue, old)):
        server.move_to(instance.port)
        server.start()


def _side(backend: Any, arn: str) -> Any:
    """Return the instance or the cluster *arn*; None where there is none."""
    kind, name = arn.split(":")[-2:]
    return (backend.clusters if kind == "cluster" else backend.databases).get(name)


def _members(side: Any) -> list[Any]:
    return list(side.members) if isinstance(side, moto.DBCluster) else []
