"""
What a changed template changes, where LocalStack leaves a resource as it was.

Its providers of rules, alarms and of what becomes of asynchronous invocations have no update, and
CloudFormation then says ``UPDATE_COMPLETE`` without one. Each is put as a whole, so an update is to
put it again under the name that it has.

It also takes a resource for another one whose name comes from a condition of the template, where
any condition has changed: it then makes a second of that name, fails, and rolls nothing back.
"""

# ruff: noqa: SLF001 - LocalStack has no public way to this, and its version is pinned.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localstack.services.cloudformation.engine.v2.change_set_model_executor import (
    ChangeSetModelExecutor,
)
from localstack.services.cloudformation.resource_provider import ResourceProviderExecutor
from localstack.services.cloudwatch.resource_providers.aws_cloudwatch_alarm import (
    CloudWatchAlarmProvider,
)
from localstack.services.events.resource_providers.aws_events_rule import EventsRuleProvider
from localstack.services.lambda_.resource_providers.aws_lambda_eventinvokeconfig import (
    LambdaEventInvokeConfigProvider,
)
from localstack.utils.patch import patch


def carry_out_updates() -> None:
    """Give the providers their updates."""
    for provider, update in (
        (EventsRuleProvider, _update_rule),
        (CloudWatchAlarmProvider, _again("AlarmName")),
        (LambdaEventInvokeConfigProvider, _again()),
    ):
        provider.update = update

    @patch(ChangeSetModelExecutor._execute_resource_change)
    def _change(fn: Callable[..., None], executor: Any, name: str, before: Any, after: Any) -> None:
        if getattr(after, "requires_replacement", False) and _is_same(before, after):
            after.requires_replacement = False
        fn(executor, name, before, after)


def _is_same(before: Any, after: Any) -> bool:
    """Tell whether a resource keeps what makes it the one that it is."""
    provider = ResourceProviderExecutor.try_load_resource_provider(after.resource_type)
    if provider is None or getattr(before, "resource_type", None) != after.resource_type:
        return False
    names = [path.split("/")[2] for path in provider.SCHEMA.get("createOnlyProperties", [])]
    had, has = before.properties.properties, after.properties.properties
    return all(had.get(name) == has.get(name) for name in names)


def _again(*names: str) -> Callable[[Any, Any], Any]:
    """Return an update that creates the resource again with *names*, which it keeps."""

    def update(provider: Any, request: Any) -> Any:
        request.desired_state.pop("Id", None)
        for name in names:
            request.desired_state[name] = request.previous_state[name]
        return provider.create(request)

    return update


def _update_rule(provider: Any, request: Any) -> Any:
    """Put the rule again, and take the targets away that it has no longer."""
    bus, _, name = request.previous_state["Id"].rpartition("|")
    request.desired_state["Name"] = name
    kept = {target["Id"] for target in request.desired_state.get("Targets") or ()}
    gone = [
        target["Id"]
        for target in request.previous_state.get("Targets") or ()
        if target["Id"] not in kept
    ]
    if gone:
        where = {"EventBusName": bus} if bus else {}
        request.aws_client_factory.events.remove_targets(Rule=name, Ids=gone, **where)
    return provider.create(request)
