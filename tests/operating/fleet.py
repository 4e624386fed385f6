"""Instances by the hundred on the local AWS, without a server each: what a sweep looks at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from infra.invoke import Call
from infra.local import stack, workflow
from infra.local.local_aws import LocalAws

RULES = ("day2-instances", "day2-parameters", "day2-requests")


@dataclass(frozen=True)
class Fleet:
    """Some instances of a local AWS, named ``fleet-000`` and so on."""

    aws: LocalAws
    names: tuple[str, ...]

    def observe(self, revisions: dict[str, str]) -> None:
        """Write the observed state of each instance: at the revision of its name."""
        pages = self.aws.client("rds").get_paginator("describe_db_instances").paginate()
        ids = {
            one["DBInstanceIdentifier"]: one["DbiResourceId"]
            for page in pages
            for one in page["DBInstances"]
        }
        for name, revision in revisions.items():
            state = {
                "dbi_resource_id": ids[name],
                "database": "postgres",
                "revision": revision,
                "outcome": "APPLIED",
                "target": revision,
                "build": "earlier",
                "at": datetime.now(UTC).isoformat(),
                "request_id": "earlier",
                "attempts": 1,
            }
            self.aws.client("ssm").put_parameter(
                Name=f"/day2/{name}/observed-state",
                Value=json.dumps(state),
                Type="String",
                Overwrite=True,
            )

    def declare(self, revision: str) -> None:
        """Write the fleet's target."""
        self.aws.client("ssm").put_parameter(
            Name="/day2/_fleet/target-revision", Value=revision, Type="String", Overwrite=True
        )

    def sweep(self, *, full: bool = False, after: str | None = None) -> Call:
        """Let the function sweep, from behind the instance *after*, and wait for it."""
        event = {"source": "day2.schedule", "detail-type": "Sweep Requested"}
        return stack.invoke(self.aws, event | {"detail": {"full": full, "after": after}})

    def remove(self) -> None:
        """Delete the instances and their parameters."""
        ssm = self.aws.client("ssm")
        names = [f"/day2/{name}/observed-state" for name in self.names]
        names.append("/day2/_fleet/target-revision")
        for start in range(0, len(names), 10):
            ssm.delete_parameters(Names=names[start : start + 10])
        for name in self.names:
            workflow.remove_instance(self.aws, name)


@contextmanager
def fleet(aws: LocalAws, count: int) -> Iterator[Fleet]:
    """Make *count* instances that exist in the control plane only; the rules sleep meanwhile."""
    events, rds = aws.client("events"), aws.client("rds")
    made = Fleet(aws, tuple(f"fleet-{number:03}" for number in range(count)))
    for rule in RULES:
        events.disable_rule(Name=rule)
    try:
        for name in made.names:
            rds.create_db_instance(
                DBInstanceIdentifier=name,
                Engine="postgres",
                DBInstanceClass="db.t4g.micro",
                AllocatedStorage=20,
                MasterUsername="postgres",
                MasterUserPassword="none-is-used",
                Tags=[
                    {"Key": "day2", "Value": "enabled"},
                    {"Key": "day2-local:no-server", "Value": "true"},
                ],
            )
        for name in made.names:
            workflow.wait_for_instance(aws, name)
        yield made
    finally:
        made.remove()
        for rule in RULES:
            events.enable_rule(Name=rule)
