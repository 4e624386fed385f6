"""
Invoke the function once, wait for as long as it may run, and print its answer and its log.

    python -m infra.invoke [--stack day2] [--yes] --payload JSON | --event FILE

It talks to whichever AWS the shell's credentials are for, names it, and asks before it sends what
may change something. The answer goes to standard output, the story of the log to standard error
(``LOG=raw`` in the environment: the log itself); the exit status is 0 for a success. ``make
invoke`` does the same on the local AWS, whatever the shell has.
"""

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from core.revisions import books
from infra import account, commands, story
from infra.commands import StoppedError, WrongUseError

# An answer needs so long to come back once the function has ended.
ANSWER_SECONDS = 15
SAY_SECONDS = 5.0
# They change nothing (README, "Ask it").
READING = ("status", "plan", "check")


class NotAnsweredError(StoppedError):
    """The function did not answer; the message says what to do."""


@dataclass(frozen=True)
class Call:
    """What came of one invocation."""

    response: Any
    function_error: str | None
    request_id: str
    log: str

    @property
    def succeeded(self) -> bool:
        """Whether the function answered, and its answer is a success."""
        body = self.response.get("body") if isinstance(self.response, dict) else None
        return self.function_error is None and (
            not isinstance(body, dict) or body.get("success") is not False
        )


@contextmanager
def saying_so(function: str, seconds: float) -> Iterator[None]:
    """Say every few *seconds*, on standard error, that *function* has not answered yet."""
    begun, is_over = time.monotonic(), threading.Event()

    def say() -> None:
        while not is_over.wait(seconds):
            print(
                f"waiting for {function}, {time.monotonic() - begun:.0f} s so far: a migration is "
                "carried out, or its database is waited for",
                file=sys.stderr,
                flush=True,
            )

    voice = threading.Thread(target=say, daemon=True)
    voice.start()
    try:
        yield
    finally:
        is_over.set()
        voice.join()


def send(client: Any, function: str, event: Any, *, say_seconds: float = SAY_SECONDS) -> Call:
    """Invoke *function* with *event* by Lambda's *client*, and return its answer and log's end."""
    with saying_so(function, say_seconds):
        # The log comes with the answer only.
        answer = client.invoke(
            FunctionName=function, Payload=json.dumps(event).encode(), LogType="Tail"
        )
    return Call(
        json.loads(answer["Payload"].read() or "null"),
        answer.get("FunctionError"),
        answer["ResponseMetadata"]["RequestId"],
        base64.b64decode(answer.get("LogResult", "")).decode(errors="replace"),
    )


def once(
    client: Callable[..., Any], stack: str, event: Any, answer_seconds: float = ANSWER_SECONDS
) -> Call:
    """
    Invoke the function of *stack* with *event*, exactly once.

    Raises:
        NotAnsweredError: The function may still be at it.
        ClientError: AWS refused, and nothing was run.
    """
    outputs = account.outputs(client, stack)
    function = outputs["FunctionName"]
    settings = client("lambda").get_function_configuration(FunctionName=function)
    seconds = settings["Timeout"] + answer_seconds
    # What is tried again migrates twice. What is silent for minutes is forgotten by NAT gateways.
    config = Config(retries={"total_max_attempts": 1}, read_timeout=seconds, tcp_keepalive=True)
    try:
        return send(client("lambda", config=config), function, event)
    except (ReadTimeoutError, ConnectionClosedError, KeyboardInterrupt) as error:
        silent = isinstance(error, ReadTimeoutError)
        what = f"did not answer within {seconds} s" if silent else "was left before it answered"
        raise NotAnsweredError(
            f"{function} {what} and may still run: ask for the status before you send anything "
            f"again, and read the log group {outputs['LogGroupName']}"
        ) from error


def show(call: Call) -> int:
    """Print the story of a call's log, or the log itself, and its response; return the status."""
    # The log goes to standard error, so that jq can read on.
    show_log(call)
    print(json.dumps(call.response, indent=2))
    return 0 if call.succeeded else 1


def show_sql(call: Call) -> int:
    """Print the pending SQL of a plan as SQL, and return the exit status."""
    show_log(call)
    body = call.response.get("body") if isinstance(call.response, dict) else None
    if not call.succeeded or not isinstance(body, dict) or "plan" not in body:
        print(json.dumps(call.response, indent=2))
        return 1
    print(f"-- {story.printable(body['message'])}\n")
    if body["plan"] and body.get("final_revision") is None:
        # A run makes them before its first revision, whose SQL writes to them.
        print(f"-- day2's own books\n{books.CREATE.strip()}\n")
    for one in body["plan"]:
        title = story.printable(f"{one['revision']}: {one['description']}")
        print(f"-- {title}\n{one['sql']}\n")
    return 0


def show_log(call: Call) -> None:
    """Print the log to standard error: as a story, or as it is where ``LOG=raw`` is given."""
    lines = (
        [call.log.rstrip("\n")]
        if story.is_raw()
        else story.story(call.log, coloured=story.has_colours(sys.stderr))
    )
    for line in lines:
        print(line, file=sys.stderr)
    sys.stderr.flush()


def changes_nothing(event: Any) -> bool:
    """Say whether *event* is a direct request that only looks; an event says that in its detail."""
    is_direct = isinstance(event, dict) and not event.keys() & {"detail-type", "Records"}
    return is_direct and event.get("action") in READING


def read_event(file: str | None, payload: str | None, *, names: tuple[str, str]) -> Any:
    """
    Return the event in *file*, or else *payload* itself; *names* is what both are called there.

    Raises:
        WrongUseError: It is not JSON, or the file cannot be read.
    """
    text, name = payload or "", names[1]
    if file is not None:
        name = f"{names[0]}{story.printable(file)}"
        try:
            text = Path(file).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise WrongUseError(f"{name} is not a text file in UTF-8") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise WrongUseError(f"{name} cannot be read: {reason}") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WrongUseError(f"{name} is not JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    """Refuse what Python takes for JSON and nobody else does."""
    raise ValueError(f"{name} is not a value of JSON")


def main(words: list[str]) -> int:
    """Invoke the function after a yes; return 0 for a success."""
    parser = commands.parser("infra.invoke", __doc__)
    parser.add_argument("--stack", default="day2")
    parser.add_argument("--yes", action="store_true", help="do not ask, as in CI")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--event", metavar="FILE", help="a JSON file, such as those in events/")
    what.add_argument("--payload", metavar="JSON")
    arguments = parser.parse_args(words)
    try:
        event = read_event(arguments.event, arguments.payload, names=("--event ", "--payload"))
    except WrongUseError as error:
        print(error, file=sys.stderr)
        return 2
    yes = arguments.yes or changes_nothing(event)

    def command(session: Any) -> int:
        account.confirm(session, arguments.stack, "invoke it", yes=yes)
        return show(once(session.client, arguments.stack, event))

    return account.carried_out(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
