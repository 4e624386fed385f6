"""
Name the account, the region and the stack that a command is about to change, and ask first.

    python -m infra.account --stack NAME [--yes] WHAT
"""

import sys
from collections.abc import Callable
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)

from infra.commands import StoppedError, parser

# What a newcomer's shell lacks, and how it gets it.
_REMEDIES = {
    NoCredentialsError: "set AWS_PROFILE, or log in",
    NoRegionError: "set AWS_DEFAULT_REGION",
    ProfileNotFound: "correct AWS_PROFILE",
}


class NoConsentError(StoppedError):
    """Nobody agreed to the change; the message says how to."""


class NoStackError(StoppedError):
    """The stack is not there, or not one of day2's."""


def carried_out(command: Callable[[Any], int]) -> int:
    """Run *command* with the shell's own session; say in one line what stops it."""
    # Imported here: the tests and the local AWS have sessions of their own.
    import boto3

    try:
        return command(boto3.session.Session())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (StoppedError, BotoCoreError, ClientError) as error:
        remedy = _REMEDIES.get(type(error))
        print(f"{error}: {remedy}" if remedy else error, file=sys.stderr)
        return 1


def outputs(client: Callable[..., Any], stack: str) -> dict[str, str]:
    """
    Return the outputs of *stack*, one of day2's, by name.

    Raises:
        NoStackError: There is none, it is not made yet, or it is another product's.
    """
    try:
        found = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
        raise NoStackError(
            f"there is no stack {stack} in this account and region: name it by --stack"
        ) from None
    told = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", ())}
    if "FunctionName" not in told:
        raise NoStackError(
            f"the stack {stack} is {found['StackStatus']} and has no function of day2's: "
            "name another by --stack"
        )
    return told


def place(session: Any, stack: str) -> str:
    """Return where *stack* is: its account, its region, and the endpoint where it is not AWS."""
    sts = session.client("sts")
    account = sts.get_caller_identity()["Account"]
    endpoint = sts.meta.endpoint_url
    elsewhere = "" if ".amazonaws.com" in endpoint else f" at {endpoint}"
    return f"account {account}, region {session.region_name}, stack {stack}{elsewhere}"


def confirm(session: Any, stack: str, what: str, *, yes: bool) -> None:
    """
    Name the place, and ask whether to do *what* there unless *yes*.

    Raises:
        NoConsentError: The answer is not yes, or nobody is there to be asked.
    """
    print(place(session, stack), file=sys.stderr, flush=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise NoConsentError(f"nobody is here to be asked: give --yes to {what}")
    print(f"{what}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NoConsentError("nothing was changed")


def main(words: list[str]) -> int:
    """Ask, and return 0 for a yes."""
    asked = parser("infra.account", __doc__)
    asked.add_argument("--stack", required=True)
    asked.add_argument("--yes", action="store_true", help="do not ask, as in CI")
    asked.add_argument("what")
    arguments = asked.parse_args(words)

    def command(session: Any) -> int:
        confirm(session, arguments.stack, arguments.what, yes=arguments.yes)
        return 0

    return carried_out(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
