"""Many instances on the local AWS, all bumped at once: by the deployed stack, events and all."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from infra.local import stack, workflow
from infra.local.local_aws import LocalAws

if TYPE_CHECKING:
    from tests.benchmarks.rows import Row

SIZE, SINGLES = 50, 6
FIRST, NEXT = "001", "002"
SECONDS_TO_ROLL = 120


def roll_forward(aws: LocalAws) -> Iterator[Row]:
    """Compare one bump for each of the fleet with as many single runs, one after the other."""
    from tests.benchmarks.rows import Row

    stack.deploy(aws)
    singles = [f"single-{number:02d}" for number in range(SINGLES)]
    fleet = [f"fleet-{number:02d}" for number in range(SIZE)]
    _create(aws, [*singles, *fleet])

    durations = []
    for name in singles:
        begin = time.monotonic()
        _bump(aws, [name])
        _wait(aws, [name], NEXT)
        durations.append(time.monotonic() - begin)
    begin = time.monotonic()
    _bump(aws, fleet)
    _wait(aws, fleet, NEXT)
    wall = time.monotonic() - begin

    cores = os.cpu_count() or 1
    single = statistics.median(durations)
    yield Row(
        f"{SIZE} instances, one bump each",
        f"single runs / {cores} cores",
        wall / (SIZE * single / cores),
        1.3,
        f"{wall:.1f} s : {SIZE} x {single:.2f} s / {cores}",
        {"single_seconds": durations, "fleet_seconds": [wall]},
    )


def _create(aws: LocalAws, names: list[str]) -> None:
    """Make the instances, and wait until each is at its first revision."""
    rds, ssm = aws.client("rds"), aws.client("ssm")
    for name in names:
        ssm.put_parameter(Name=_parameter(name), Value=FIRST, Type="String")
        rds.create_db_instance(
            DBInstanceIdentifier=name,
            Engine="postgres",
            DBInstanceClass="db.t4g.micro",
            AllocatedStorage=20,
            MasterUsername="postgres",
            ManageMasterUserPassword=True,
            Tags=[{"Key": stack.STACK, "Value": "enabled"}],
        )
    for name in names:
        workflow.wait_for_instance(aws, name)
    _wait(aws, names, FIRST)


def _bump(aws: LocalAws, names: list[str]) -> None:
    ssm = aws.client("ssm")
    for name in names:
        ssm.put_parameter(Name=_parameter(name), Value=NEXT, Type="String", Overwrite=True)


def _wait(aws: LocalAws, names: list[str], revision: str) -> None:
    """Wait until every one of *names* is reported at *revision*."""
    pages = aws.client("ssm").get_paginator("get_parameters_by_path")
    deadline = time.monotonic() + SECONDS_TO_ROLL
    while time.monotonic() < deadline:
        found = {
            entry["Name"].split("/")[2]: json.loads(entry["Value"])["revision"]
            for page in pages.paginate(Path=f"/{stack.STACK}/", Recursive=True)
            for entry in page["Parameters"]
            if entry["Name"].endswith("/observed-state")
        }
        if all(found.get(name) == revision for name in names):
            return
        time.sleep(0.1)
    late = [name for name in names if found.get(name) != revision]
    raise TimeoutError(f"not at {revision} in {SECONDS_TO_ROLL} s: {', '.join(late)}")


def _parameter(name: str) -> str:
    return f"/{stack.STACK}/{name}/target-revision"
