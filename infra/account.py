"""
Name the account, the region and the stack that a command is about to change, and ask first.

    python -m infra.account --stack NAME [--yes] WHAT
"""

import argparse
import sys
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError


class NoConsentError(Exception):
    """Nobody agreed to the change; the message says how to."""


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
    parser = argparse.ArgumentParser(prog="python -m infra.account", description=__doc__)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--yes", action="store_true", help="do not ask, as in CI")
    parser.add_argument("what")
    arguments = parser.parse_args(words)
    try:
        confirm(boto3.session.Session(), arguments.stack, arguments.what, yes=arguments.yes)
    except (NoConsentError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
