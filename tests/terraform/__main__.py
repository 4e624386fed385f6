"""
An instance, a cluster and their targets kept in Terraform, on a local AWS of its own.

    TERRAFORM_PLUGINS=folder python -m tests.terraform

The folder has Terraform's AWS provider, laid out as ``terraform providers mirror`` lays it out: a
plan is empty after each apply, a bumped target migrates, and destroy leaves nothing. Nothing is
fetched. Each step is told with its seconds; the first that goes wrong ends it with status 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from infra.local import shell, stack
from infra.local.local_aws import LocalAws, LocalAwsError
from infra.local.postgres import engine_versions
from infra.local.state import State, free_port

CONFIGURATION = Path(__file__).with_name("main.tf")
VARIABLE = "TERRAFORM_PLUGINS"
MIGRATED_SECONDS = 60
DATABASES = ("orders", "shop")


class StepError(Exception):
    """A step did not do what it is there for; the message says what came of it."""


class Terraform:
    """Terraform on one folder, with the variables of a local AWS and no configuration of yours."""

    def __init__(self, aws: LocalAws, folder: Path, plugins: Path) -> None:
        shutil.copy(CONFIGURATION, folder)
        self._folder = folder
        self._plugins = plugins
        self._environment = (
            {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
            | aws.environment()
            | {
                "TF_CLI_CONFIG_FILE": os.devnull,
                "TF_IN_AUTOMATION": "1",
                "CHECKPOINT_DISABLE": "1",
            }
        )

    def initialize(self) -> None:
        """Take the provider from the folder of plugins."""
        self._run("init", f"-plugin-dir={self._plugins}")

    def apply(self, **variables: str) -> None:
        """Apply the configuration with *variables*, which later steps keep."""
        self._environment |= {f"TF_VAR_{name}": value for name, value in variables.items()}
        self._run("apply", "-auto-approve")

    def expect_nothing(self) -> None:
        """
        Plan, and find nothing to do.

        Raises:
            StepError: Terraform would change something; holds the plan.
        """
        self._run("plan", "-detailed-exitcode")

    def destroy(self) -> None:
        """Destroy all of it."""
        self._run("destroy", "-auto-approve")

    def _run(self, command: str, *words: str) -> None:
        done = subprocess.run(
            ["terraform", command, "-no-color", "-input=false", *words],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StepError(f"terraform {command} ended with {done.returncode}:\n{done.stdout}")


def main() -> int:
    """Play it; return 0 if every step did what it should."""
    shell.forget()
    plugins = os.environ.get(VARIABLE)
    if shutil.which("terraform") is None:
        sys.stderr.write("there is no terraform on this machine's PATH: install it\n")
        return 1
    if not plugins or not Path(plugins).is_dir():
        sys.stderr.write(
            f"{VARIABLE} has to name a folder with Terraform's AWS provider, as `terraform "
            f"providers mirror` makes one: make test-terraform {VARIABLE}=folder\n"
        )
        return 1
    aws = LocalAws(State.of_process())
    try:
        aws.up(port=free_port())
        with tempfile.TemporaryDirectory() as folder:
            _play(aws, Terraform(aws, Path(folder), Path(plugins).absolute()))
    except (StepError, LocalAwsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        aws.clean()
    return 0


def _play(aws: LocalAws, terraform: Terraform) -> None:
    version = engine_versions.usual_version()
    major = version.split(".", maxsplit=1)[0]
    _step("the stack is deployed", lambda: stack.deploy(aws, is_probed=True))
    _step("init", terraform.initialize)
    _step(
        f"apply: PostgreSQL {major}, target 002",
        lambda: terraform.apply(engine_version=major, target="002"),
    )
    _step("both are at 002", lambda: _wait_until_at(aws, "002"))
    _step("the plan is empty", terraform.expect_nothing)
    _step("apply: target 004", lambda: terraform.apply(target="004"))
    _step("both are at 004", lambda: _wait_until_at(aws, "004"))
    _step("the plan is empty", terraform.expect_nothing)
    _step(f"apply: version {version}", lambda: terraform.apply(engine_version=version))
    _step("the plan is empty", terraform.expect_nothing)
    _step("destroy", terraform.destroy)
    _step("nothing is left", lambda: _expect_nothing_left(aws))


def _step(name: str, play: Callable[[], object]) -> None:
    begin = time.monotonic()
    play()
    sys.stdout.write(f"{name} ({time.monotonic() - begin:.0f} s)\n")
    sys.stdout.flush()


def _wait_until_at(aws: LocalAws, revision: str) -> None:
    """Wait until day2 has reported the instance and the cluster at *revision*."""
    ssm = aws.client("ssm")
    deadline = time.monotonic() + MIGRATED_SECONDS
    names = [f"/day2/{one}/observed-state" for one in DATABASES]
    seen: dict[str, str] = {}
    while time.monotonic() < deadline:
        found = ssm.get_parameters(Names=names)["Parameters"]
        seen = {one["Name"]: json.loads(one["Value"])["revision"] for one in found}
        if [seen.get(one) for one in names] == [revision] * len(names):
            return
        time.sleep(0.2)
    raise StepError(f"not at {revision} after {MIGRATED_SECONDS} s: {seen}")


def _expect_nothing_left(aws: LocalAws) -> None:
    instances = aws.client("rds").describe_db_instances()["DBInstances"]
    clusters = aws.client("rds").describe_db_clusters()["DBClusters"]
    groups = aws.client("rds").describe_db_parameter_groups()["DBParameterGroups"]
    own = [one["DBParameterGroupName"] for one in groups if one["DBParameterGroupName"] == "orders"]
    names = [one["DBInstanceIdentifier"] for one in instances]
    names += [one["DBClusterIdentifier"] for one in clusters]
    if names or own:
        raise StepError(f"left: {names}, {own}")


if __name__ == "__main__":
    sys.exit(main())
