"""The command line of the local AWS; ``make help`` lists the same in a person's words."""

# ruff: noqa: ARG001 - every command is called alike, whether it needs both or not.

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

from infra.commands import StoppedError, WrongUseError
from infra.local import shell
from infra.local.local_aws import OUTDATED, LocalAws
from infra.local.postgres.programs import available_programs
from infra.local.state import State

# What needs boto3 or Alembic is imported by the command that uses it: `down` and `env` answer at
# once.


def up(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Start the local AWS and deploy the stack."""
    from infra.local import stack

    begin = time.monotonic()
    # Refused before anything starts.
    stack.given(arguments.parameters)
    aws.up()
    outputs = stack.up(aws, arguments.parameters)
    seconds = time.monotonic() - begin
    print(f"{outputs['FunctionName']} is deployed at {aws.endpoint_url} ({seconds:.0f} s)")
    return 0


def down(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Stop the local AWS and every process it started."""
    aws.clean_abandoned()
    aws.down()
    return 0


def clean(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Stop it and remove all it keeps."""
    aws.clean_abandoned()
    aws.clean()
    return 0


def env(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Print what a shell needs to use it; when it is down, what makes the shell's eval fail."""
    if aws.port is None:
        print("false")
    variables = aws.environment()
    leading_elsewhere = {*arguments.leading_elsewhere, *shell.ALWAYS_UNSET} - {*variables}
    print("unset", *sorted(leading_elsewhere))
    for name, value in {**variables, **shell.without_proxy(os.environ)}.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def status(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Tell whether it is up, where, and with which instances."""
    if aws.port is None:
        print("down; make up starts it")
        return 1
    aws.check()
    print(f"up at {aws.endpoint_url}, log {aws.state.log}")
    if aws.is_outdated:
        print(f"  {OUTDATED}")
    for instance in aws.client("rds").describe_db_instances()["DBInstances"]:
        endpoint = instance.get("Endpoint", {})
        where = f"{endpoint.get('Address', '-')}:{endpoint.get('Port', '-')}"
        print(f"  {instance['DBInstanceIdentifier']}  {instance['DBInstanceStatus']}  {where}")
    for cluster in aws.client("rds").describe_db_clusters()["DBClusters"]:
        where = f"{cluster['Endpoint']}:{cluster['Port']}"
        print(f"  {cluster['DBClusterIdentifier']}  {cluster['Status']}  {where}  (cluster)")
    return 0


def invoke(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Invoke the function and print its log and its response."""
    event = _event(arguments.event, arguments.payload)
    aws.check()

    from infra.local import demo, stack, workflow

    for kind, name in stack.missing(aws, event):
        made = workflow.SECRET if kind == "secret" else workflow.INSTANCE
        makers = {workflow.SECRET: "make db-up makes it", demo.NAME: "make run makes it"}
        print(
            f"the event names the {kind} {name}, which this local AWS does not have: "
            + makers.get(name, f"make it, or name {made}, which make db-up makes"),
            file=sys.stderr,
        )
    for named in workflow.unknown_revisions(event):
        print(
            f"the event names the revision {named}, which these migrations do not have: "
            "make list-migrations lists them",
            file=sys.stderr,
        )
    return _show(stack.invoke(aws, event))


def plan(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Print the SQL of the revisions that are pending on an instance."""
    if not arguments.instance:
        raise WrongUseError("name the instance: make plan INSTANCE=orders [TARGET=004]")
    event = {"instance": arguments.instance, "action": "plan"}
    if arguments.target:
        event["target_revision"] = arguments.target
    aws.check()

    from infra.invoke import show_sql
    from infra.local import stack, workflow

    if arguments.instance == workflow.INSTANCE:
        event["secret_name"] = workflow.SECRET
    return show_sql(stack.invoke(aws, event))


def database_up(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Make the workbench database and its secret."""
    aws.check()
    from infra.local import workflow

    _show_database(workflow.database_up(aws))
    return 0


def database_reset(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Make the workbench database anew, empty."""
    aws.check()
    from infra.local import workflow

    _show_database(workflow.database_reset(aws))
    return 0


def migrate(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Have the function migrate the workbench database."""
    aws.check()
    from infra.local import workflow

    workflow.database_up(aws)
    return _show(workflow.migrate(aws, arguments.target))


def check_target(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Refuse a target that the revisions do not have."""
    from infra.local import workflow

    workflow.check_target(arguments.target)
    return 0


def revisions(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """List the revisions with their descriptions."""
    from infra.local import workflow

    for identifier, description in workflow.revisions():
        print(f"{identifier}  {description}")
    return 0


def new_revision(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Write a revision's skeleton."""
    from infra.local import workflow

    print(workflow.new_revision(arguments.description))
    return 0


def failures(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """List the events that failed for good."""
    return _redrive(aws, send=False)


def redrive(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Send them again."""
    return _redrive(aws, send=True)


def programs(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """List every PostgreSQL that the tests run on; installs the pinned one."""
    for found in available_programs():
        print(f"PostgreSQL {found.version}  {found.folder}")
    return 0


def demo(aws: LocalAws, arguments: argparse.Namespace) -> int:
    """Play the three triggers."""
    from infra.local import demo as the_demo

    the_demo.run(aws, the_demo.A_CLUSTER if arguments.cluster else the_demo.AN_INSTANCE)
    return 0


def main(words: list[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[..., int]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        made.set_defaults(run=function)
        return made

    command("up", up).add_argument(
        "--parameters", default="", metavar='"Name=value …"', help="parameters of the template"
    )
    command("down", down)
    command("clean", clean)
    command("env", env)
    command("status", status)
    event = command("invoke", invoke)
    event.add_argument("--event", metavar="FILE", help="a JSON file, such as those in events/")
    event.add_argument("--payload", metavar="JSON")
    planned = command("plan", plan)
    planned.add_argument("--instance", metavar="NAME", help="a DB instance identifier")
    planned.add_argument("--target", metavar="REVISION", help="else the declared one, or head")
    command("database-up", database_up)
    command("database-reset", database_reset)
    command("migrate", migrate).add_argument("--target", default="head", metavar="REVISION")
    command("check-target", check_target).add_argument("--target", required=True)
    command("revisions", revisions)
    command("new-revision", new_revision).add_argument("description")
    command("failures", failures)
    command("redrive", redrive)
    command("programs", programs)
    command("demo", demo).add_argument("--cluster", action="store_true", help="on a DB cluster")

    arguments = parser.parse_args(words)
    arguments.leading_elsewhere = shell.leading_elsewhere(os.environ)
    shell.forget()
    try:
        return int(arguments.run(LocalAws(State.of_checkout()), arguments))
    except WrongUseError as error:
        print(error, file=sys.stderr)
        return 2
    except (StoppedError, PermissionError) as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:
        # Imported here: boto3 takes longer than all else that `make down` does.
        from botocore.exceptions import BotoCoreError, ClientError

        if not isinstance(error, BotoCoreError | ClientError):
            raise
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        asks = arguments.run in (invoke, plan, migrate, demo)
        more = ": what the function was asked for may still run" if asks else ""
        print(f"interrupted{more}", file=sys.stderr)
        return 130


def _event(file: str | None, payload: str | None) -> Any:
    """
    Return the event in *file*, or *payload* itself.

    Raises:
        WrongUseError: There are both or none of them, or it is not JSON.
    """
    from infra.invoke import read_event

    if bool(file) == bool(payload):
        which = "either EVENT or PAYLOAD" if file else "EVENT=events/….json or PAYLOAD='{…}'"
        raise WrongUseError(f"give {which}: make invoke EVENT=events/direct_plan.json")
    return read_event(file or None, payload, names=("EVENT=", "PAYLOAD"))


def _show(call: Any) -> int:
    from infra.invoke import show

    return show(call)


def _redrive(aws: LocalAws, *, send: bool) -> int:
    """Use the local AWS's own clients: those of the shell's credentials may reach another AWS."""
    aws.check()
    from infra import redrive
    from infra.local import stack

    return redrive.run(redrive.Redrive(stack.STACK, aws.client), send=send)


def _show_database(secret: dict[str, Any]) -> None:
    from infra.local import workflow

    print(f"{secret['dbname']} at {secret['host']}:{secret['port']}, secret {workflow.SECRET}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
