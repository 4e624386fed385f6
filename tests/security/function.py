"""
The function's process, as Lambda runs it: the handler, its variables, its log, its end.

Each call gets a process of its own, forked from one that has imported everything, so that a
call costs a tenth of a second and can be killed anywhere.

    python -m tests.security.function    (calls as lines of JSON on stdin, answers on stdout)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import botocore.session

    from core.revisions.runner import Revisions

ROOT = Path(__file__).resolve().parent.parent.parent
REQUEST_ID = "c0ffee00-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Answer:
    """
    What came of a call.

    Attributes:
        response: The handler's; ``None`` where it raised or was killed.
        error: The exception with its whole chain, and what each of them holds.
        log: All that was written, on stdout and stderr.
    """

    response: dict[str, Any] | None
    error: str | None
    log: str

    @property
    def body(self) -> dict[str, Any]:
        """The response's body."""
        assert self.response is not None, self.error or self.log
        body: dict[str, Any] = self.response["body"]
        return body

    @property
    def outcome(self) -> str:
        """The code of the contract."""
        return str(self.body["outcome"])


@dataclass
class Function:
    """
    The deployed function, for one account.

    Attributes:
        variables: Its whole environment.
        folder: Where its logs go.
        pid: The process at work, so that a test can kill it.
    """

    variables: dict[str, str]
    folder: Path
    pid: int = 0
    _calls: int = 0
    _parent: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.security.function"],
            cwd=ROOT,
            env=self.variables | {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.close()
        self._parent.stdout.close()
        self._parent.wait(10)

    def start(self, event: object, **variables: str) -> None:
        """Start a call, with *variables* beside the usual ones."""
        assert self._parent.stdin
        assert self._parent.stdout
        self._calls += 1
        self._log = self.folder / f"call-{self._calls}.log"
        call = {
            "event": event,
            "variables": self.variables | variables,
            "log": str(self._log),
            "answer": str(self._log.with_suffix(".json")),
        }
        self._parent.stdin.write(json.dumps(call) + "\n")
        self._parent.stdin.flush()
        self.pid = int(self._parent.stdout.readline())

    def result(self) -> Answer:
        """Wait for the call that was started, and return what came of it."""
        assert self._parent.stdout
        assert self._parent.stdout.readline() == "ended\n"
        file = self._log.with_suffix(".json")
        found = json.loads(file.read_text()) if file.exists() else {"response": None, "error": None}
        return Answer(found["response"], found["error"], self._log.read_text())

    def invoke(self, event: object, **variables: str) -> Answer:
        """Call the function and wait."""
        self.start(event, **variables)
        return self.result()

    def kill(self) -> None:
        """End the process at work as Lambda does at a timeout, and wait until it is gone."""
        assert self.pid > 0
        os.kill(self.pid, signal.SIGKILL)
        # It is another's child, and a zombie until that one waits for it: then it says "ended".
        time.sleep(0.02)


class Context:
    """What Lambda hands over beside the event."""

    function_name = "day2-dispatcher"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:day2-dispatcher"
    aws_request_id = REQUEST_ID

    def __init__(self) -> None:
        self._end = time.monotonic() + float(os.environ.get("TEST_SECONDS", "60"))

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds left."""
        return int((self._end - time.monotonic()) * 1000)


def _serve() -> None:
    """Answer calls until stdin ends."""
    import botocore.session
    import sqlalchemy.dialects.postgresql  # noqa: F401  imported once, for all the calls
    from sqlalchemy import create_engine  # noqa: F401

    import handlers.dispatcher  # noqa: F401
    from core.revisions.runner import Revisions

    revisions = Revisions()
    _ = revisions.identifiers, revisions.descriptions, revisions.checksums
    session = botocore.session.get_session()
    for service in ("rds", "ssm", "secretsmanager", "events", "sns"):
        session.create_client(service)
    for line in sys.stdin:
        call = json.loads(line)
        child = os.fork()
        if child == 0:
            _one(call, revisions, session)
            os._exit(0)
        _say(child)
        os.waitpid(child, 0)
        _say("ended")


def _say(word: object) -> None:
    """Tell whoever called."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _one(call: Mapping[str, Any], revisions: Revisions, session: botocore.session.Session) -> None:
    """Answer one call, in its own process."""
    os.environ.clear()
    os.environ.update(call["variables"])
    log = os.open(call["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    import logging

    if os.environ["POWERTOOLS_LOG_LEVEL"] == "DEBUG":
        # As Lambda's own logging control does at DEBUG: everybody's lines, not only ours.
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    from core.aws import Aws
    from handlers import dispatcher

    dispatcher.logger.setLevel(os.environ["POWERTOOLS_LOG_LEVEL"])
    response = error = None
    try:
        # As in a warm container: loaded once, for all the calls.
        ours = dispatcher.application()
        vars(ours)["revisions"] = revisions
        vars(ours)["aws"] = Aws(ours.settings, session)
        response = dispatcher.handler(call["event"], Context())
    except Exception as raised:  # noqa: BLE001  it is told to whoever called
        error = _everything(raised)
    sys.stdout.flush()
    Path(call["answer"]).write_text(json.dumps({"response": response, "error": error}))


def _everything(error: BaseException | None) -> str:
    """Return all that *error* and those behind it say and hold."""
    parts = ["".join(traceback.format_exception(error))] if error else []
    seen: list[BaseException] = []
    queue = [error] if error else []
    while queue:
        one = queue.pop()
        if one in seen:
            continue
        seen.append(one)
        parts += [repr(one), repr(one.args), repr(vars(one))]
        queue += [other for other in (one.__cause__, one.__context__) if other]
    return "\n".join(parts)


if __name__ == "__main__":
    _serve()
