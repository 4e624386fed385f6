"""What an event asks for: pure parsing of raw events into requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from core.decisions.target import target_revision
from core.errors import InvalidField, Rejected
from core.model import (
    FLEET,
    MIGRATION_REQUESTED,
    SWEEP_REQUESTED,
    Action,
    FleetBump,
    Ignored,
    Request,
    Sweep,
    Trigger,
)
from core.settings import target_parameter
from handlers.waited import event_that_waited, waited
from handlers.wrapped import wrapping_of

# Amazon RDS User Guide, "Amazon RDS event categories and event messages".
INSTANCE_EVENTS = {
    "RDS-EVENT-0005": "created",
    "RDS-EVENT-0006": "restarted, as after a new name",
    "RDS-EVENT-0016": "the master's credentials were reset",
    "RDS-EVENT-0043": "restored from a snapshot",
    "RDS-EVENT-0019": "restored to a point in time",
    "RDS-EVENT-0088": "started",
    "RDS-EVENT-0154": "started, after the longest time it may be stopped",
}
# Aurora User Guide, the same page for Aurora, "DB cluster events". Not all of them are of Multi-AZ
# clusters, too. A restored cluster has none of its own: it is created.
CLUSTER_EVENTS = {
    "RDS-EVENT-0170": "created",
    "RDS-EVENT-0016": "the master's credentials were reset",
    "RDS-EVENT-0071": "failed over to another of its instances",
    "RDS-EVENT-0151": "started",
    "RDS-EVENT-0153": "started, after the longest time it may be stopped",
    "RDS-EVENT-0172": "renamed",
    "RDS-EVENT-0184": "promoted, in a switchover of its global cluster",
    "RDS-EVENT-0185": "switched over to, in its global cluster",
    "RDS-EVENT-0238": "failed over to, in its global cluster",
    "RDS-EVENT-0513": "its volume was replaced",
}
DEPLOYMENT_EVENTS = {
    "RDS-EVENT-0246": "deleted",
    "RDS-EVENT-0248": "switched over",
}
PARAMETER_OPERATIONS = ("Create", "Update")

# RDS API, CreateDBInstance, "DBInstanceIdentifier", and CreateDBCluster, "DBClusterIdentifier";
# stored in lower case.
_INSTANCE = re.compile(r"[a-z][a-z0-9-]{0,62}")

_DIRECT_FIELDS = (
    "secret_name",
    "instance",
    "action",
    "target_revision",
    "from_revision",
    "take_over",
    "raise_on_failure",
)
# What was there before, by the name of a role or a schema, or of a table with its schema.
_TAKEN_OVER = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?")
_TAKING_ACTIONS = (Action.MIGRATE, Action.PLAN)

_BUS_FIELDS = ("instance", "action", "target_revision", "continues")
_BUS_ACTIONS = (Action.MIGRATE, Action.STATUS)
_ACTIONS = {action.value: action for action in Action}
_SWEEP_FIELDS = ("full", "after")

# What EventBridge gives every event.
_EVENT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# What all detail-types of RDS begin with: of snapshots, groups, proxies, shard groups, …
_OF_RDS = "RDS "

Asked = Request | FleetBump | Sweep | Ignored


def is_event(raw: object) -> bool:
    """Say whether *raw* came over EventBridge: then a failure is raised, not answered."""
    return isinstance(raw, dict) and "detail-type" in raw and "source" in raw


def asks_to_raise(raw: object) -> bool:
    """
    Say whether *raw*, which did not come over EventBridge, needs exceptions for answers.

    A direct request, a wrong one included, may ask for them; for what came wrapped in
    something else nobody reads an answer.
    """
    if is_event(raw):
        return False
    is_asked = isinstance(raw, dict) and raw.get("raise_on_failure") is True
    return is_asked or wrapping_of(raw, _DIRECT_FIELDS) is not None


def request_id(raw: object, invocation: str) -> str:
    """
    Return the id by which all that is told of *raw* is found: the event's own, where it has one.

    Log, history, observed state and result event have it. It survives Lambda's retries and a
    delivery in duplicate, which makes another *invocation*, and a wait in our queue.
    """
    event = original(raw)
    found = event.get("id") if event is not None else None
    is_given = isinstance(found, str) and _EVENT_ID.fullmatch(found)
    return str(found) if is_given else invocation


def original(raw: object) -> Mapping[str, Any] | None:
    """Return the event of EventBridge that *raw* is, or that has waited in a queue as *raw*."""
    event = event_that_waited(raw) or raw
    return event if isinstance(event, dict) and is_event(event) else None


def parse(raw: object, prefix: str, waiting_queue_arn: str = "") -> Asked:
    """
    Return what *raw* asks for; *prefix* is the stack's, as in its parameters and events.

    *waiting_queue_arn* is the stack's own queue's. What waited there is unwrapped, and nothing
    else: an event for one instance, which came over EventBridge.

    Raises:
        Rejected: It is not an event of ours, or a field of it is wrong; the error names it.
    """
    message = waited(raw, waiting_queue_arn)
    if message is not None:
        event = original(raw)
        asked = None if event is None else parse(event, prefix)
        if not isinstance(asked, Request):
            raise InvalidField(
                "body", "is not an event for an instance", "put only what day2 puts there"
            )
        return asked._replace(waiting=message)
    wrapping = None if is_event(raw) else wrapping_of(raw, _DIRECT_FIELDS)
    if wrapping is not None:
        came_as, remedy = wrapping
        raise InvalidField("event", f"came as {came_as}", remedy)
    if not isinstance(raw, dict):
        raise InvalidField("event", "is not a JSON object", "send a request or an event")
    if not is_event(raw):
        return _direct(raw)
    detail = raw.get("detail")
    if not isinstance(detail, dict):
        raise InvalidField("detail", "is not a JSON object", "send the event as AWS sends it")
    source, kind = raw["source"], raw["detail-type"]
    is_text = isinstance(source, str) and isinstance(kind, str)
    read = readers(prefix).get((source, kind)) if is_text else None
    # A rule by hand that leaves out the detail-type brings all of them.
    if read is None and is_text and source == "aws.rds" and kind.startswith(_OF_RDS):
        return _other_rds_event(detail)
    if read is None:
        raise Rejected(
            f"source, detail-type: day2 does nothing for {kind!r} of {source!r}: "
            "correct the rule that sent it"
        )
    return read(detail)


def readers(prefix: str) -> dict[tuple[str, str], Callable[[Mapping[str, Any]], Asked]]:
    """
    Return what reads the detail of each event that wakes us, by its source and detail-type.

    Each needs a rule or a schedule in ``infra/template.yaml`` that delivers it, and a sample in
    ``events/``: ``tests/house/test_triggers.py`` compares the three.
    """
    return {
        ("aws.rds", "RDS DB Instance Event"): _instance_event,
        ("aws.rds", "RDS DB Cluster Event"): _cluster_event,
        ("aws.rds", "RDS Blue Green Deployment Event"): _deployment_event,
        ("aws.ssm", "Parameter Store Change"): lambda detail: _parameter_event(detail, prefix),
        (prefix, MIGRATION_REQUESTED): _requested,
        (prefix, SWEEP_REQUESTED): _sweep,
        (f"{prefix}.schedule", SWEEP_REQUESTED): _sweep,
    }


def _instance_event(detail: Mapping[str, Any]) -> Request | Ignored:
    """
    Parse an event of RDS; its ``EventID`` may be null (seen on AWS).

    -0043 is the event of a restored instance and of its snapshot (awsdocs/amazon-rds-user-guide,
    pull request 153), so the identifier alone does not tell.
    """
    event = detail.get("EventID")
    is_ours = isinstance(event, str) and event in INSTANCE_EVENTS
    if detail.get("SourceType") != "DB_INSTANCE" or not is_ours:
        return _other_rds_event(detail)
    return Request(Trigger.INSTANCE, instance=_instance(_named(detail), "detail.SourceIdentifier"))


def _cluster_event(detail: Mapping[str, Any]) -> Request | Ignored:
    """Parse an event of a DB cluster, which may come before any instance of it can write."""
    event = detail.get("EventID")
    is_ours = isinstance(event, str) and event in CLUSTER_EVENTS
    if detail.get("SourceType") != "CLUSTER" or not is_ours:
        return _other_rds_event(detail)
    return Request(Trigger.CLUSTER, instance=_instance(_named(detail), "detail.SourceIdentifier"))


def _deployment_event(detail: Mapping[str, Any]) -> Sweep | Ignored:
    """
    Parse an event of a blue/green deployment: its end sets free what waited for it.

    It names no instance, and its deployment may be gone: so the whole fleet is looked at.
    """
    event = detail.get("EventID")
    is_end = isinstance(event, str) and event in DEPLOYMENT_EVENTS
    if detail.get("SourceType") != "BLUE_GREEN_DEPLOYMENT" or not is_end:
        return _other_rds_event(detail)
    return Sweep()


def _other_rds_event(detail: Mapping[str, Any]) -> Ignored:
    what = f"RDS event {detail.get('EventID')} of {_named(detail)}"
    return Ignored("other-rds-event", f"{what} needs no run")


def _named(detail: Mapping[str, Any]) -> object:
    """Return what an event of RDS is about."""
    name = detail.get("SourceIdentifier")
    # The User Guide's own sample says rds:my-instance; captured events have no prefix.
    return name.removeprefix("rds:") if isinstance(name, str) else name


def _parameter_event(detail: Mapping[str, Any], prefix: str) -> Request | FleetBump | Ignored:
    """Parse a ``Parameter Store Change``: it carries the name and never the value."""
    name, operation = detail.get("name"), detail.get("operation")
    path = name.split("/") if isinstance(name, str) else []
    if len(path) != 4 or name != target_parameter(prefix, path[2]):
        return Ignored("other-parameter", f"parameter {name} does not declare a target")
    if detail.get("exception"):
        return Ignored("parameter-unset", f"parameter {name} was not changed: AWS refused it")
    if operation not in PARAMETER_OPERATIONS:
        return Ignored(
            "parameter-not-written", f"{operation} of parameter {name} changes no target", path[2]
        )
    if path[2] == FLEET:
        return FleetBump()
    if not _INSTANCE.fullmatch(path[2]):
        # Whoever wrote it waits for a run that would never come.
        raise InvalidField(
            "detail.name",
            f"{name} declares a target for {path[2]!r}, and nothing of RDS can have that name",
            "write it for the identifier as RDS keeps it, in small letters",
        )
    return Request(Trigger.PARAMETER, instance=path[2])


def _requested(detail: Mapping[str, Any]) -> Request:
    """Parse a ``Migration Requested``: whoever may put events may ask for this, and no more."""
    _only(detail, _BUS_FIELDS, "detail.")
    action = _action(detail, "detail.")
    if action not in _BUS_ACTIONS:
        raise InvalidField(
            "detail.action", f"{action.value!r} is for direct requests only", "invoke the function"
        )
    return Request(
        Trigger.REQUEST,
        action=action,
        instance=_instance(detail.get("instance"), "detail.instance"),
        target=_target(detail, "detail."),
        continues=_text(detail, "continues", "detail."),
    )


def _sweep(detail: Mapping[str, Any]) -> Sweep:
    _only(detail, _SWEEP_FIELDS, "detail.")
    return Sweep(full=_flag(detail, "full", "detail."), after=_text(detail, "after", "detail."))


def _direct(raw: Mapping[str, Any]) -> Request:
    """Parse a direct request; what it means is the contract with outside callers."""
    _only(raw, _DIRECT_FIELDS, "")
    secret_name = _text(raw, "secret_name", "")
    instance = raw.get("instance")
    if instance is None and secret_name is None:
        raise InvalidField(
            "secret_name", "is missing", "name the master secret, or give instance instead"
        )
    # How a failure is told is the handler's business, by asks_to_raise; here it is checked.
    _flag(raw, "raise_on_failure", "")
    return Request(
        Trigger.DIRECT,
        action=_action(raw, ""),
        instance=None if instance is None else _instance(instance, "instance"),
        secret_name=secret_name,
        target=_target(raw, ""),
        from_revision=_text(raw, "from_revision", ""),
        take_over=_take_over(raw),
    )


def _only(fields: Mapping[str, Any], known: tuple[str, ...], path: str) -> None:
    for name in fields:
        if name not in known:
            raise InvalidField(f"{path}{name}", "is unknown", f"the fields are {', '.join(known)}")


def _text(fields: Mapping[str, Any], name: str, path: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InvalidField(f"{path}{name}", "is empty or not text", "give text, or leave it out")
    return value


def _flag(fields: Mapping[str, Any], name: str, path: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise InvalidField(f"{path}{name}", f"{value!r} is not a boolean", "give true or false")
    return value


def _action(fields: Mapping[str, Any], path: str) -> Action:
    value = fields.get("action", Action.MIGRATE)
    action = _ACTIONS.get(value) if isinstance(value, str) else None
    if action is None:
        remedy = f"give one of {', '.join(_ACTIONS)}"
        raise InvalidField(f"{path}action", f"{value!r} is not an action", remedy)
    return action


def _instance(value: object, name: str) -> str:
    if not isinstance(value, str) or not _INSTANCE.fullmatch(value.lower()):
        raise InvalidField(
            name,
            f"{value!r} is not a DB instance or cluster identifier",
            "give letters, digits and hyphens",
        )
    return value.lower()


def _target(fields: Mapping[str, Any], path: str) -> str | None:
    value = _text(fields, "target_revision", path)
    return None if value is None else target_revision(value, named=f"{path}target_revision")


def _take_over(raw: Mapping[str, Any]) -> frozenset[str]:
    """Return what may be taken over that somebody else made."""
    names = raw.get("take_over")
    if names is None:
        return frozenset()
    if not isinstance(names, list):
        raise InvalidField("take_over", "is not a list", 'give names, such as ["app_user"]')
    for number, name in enumerate(names):
        if not isinstance(name, str) or not _TAKEN_OVER.fullmatch(name):
            raise InvalidField(
                f"take_over[{number}]",
                f"{name!r} is not a name of ours",
                "give the name of a role, a schema, or a table with its schema, as plan shows it",
            )
    if _action(raw, "") not in _TAKING_ACTIONS:
        raise InvalidField("take_over", "is for migrate and plan only", "leave it out")
    return frozenset(names)
