"""
A warm container of the function: the real handler, in a process of its own a call.

Run as a program, it loads the deployed tree once and then forks for each line that it reads:
a child carries out one event and can be killed like the Lambda process that it is. Used from
a test, ``Container`` starts that program and hands it events.
"""

# ruff: noqa: T201 - a program that prints

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from tests.equipment.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from handlers.application import Application

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("rds", "ssm", "secretsmanager", "events", "sqs", "sns")

# What a run imports, as after the first one of a container: it costs more than the run itself.
OF_A_RUN = (
    "alembic.command",
    "alembic.config",
    "core.operations",
    "core.revisions.dialect",
    "core.revisions.loop",
    "psycopg2.extras",
    "sqlalchemy.dialects.postgresql.psycopg2",
)

NEVER_SECONDS = 120.0


class NoAnswer(Exception):
    """A call that had to end and did not."""


@dataclass(frozen=True)
class Raised:
    """
    What the handler raised.

    Attributes:
        kind: Its class.
        outcome: Its code of the contract, if it is one of ours.
        everything: It and those behind it: their tracebacks, and all that they hold.
    """

    kind: str
    text: str
    outcome: str | None
    everything: str = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """
    What came of a call: what the handler returned, or what it raised.

    Attributes:
        log: All that was written, on stdout and stderr.
    """

    response: dict[str, Any] = field(default_factory=dict)
    error: Raised | None = None
    log: str = field(default="", repr=False)

    @property
    def body(self) -> dict[str, Any]:
        """The response's body."""
        body: dict[str, Any] = self.response.get("body", {})
        return body

    @property
    def outcome(self) -> str | None:
        """The code of the contract; of what was raised too, since that is logged."""
        return self.body.get("outcome") if self.error is None else self.error.outcome

    def line(self, message: str) -> dict[str, Any]:
        """Return the log line with this *message*, or an empty one."""
        for line in self.log.splitlines():
            if line.startswith("{") and (found := json.loads(line)).get("message") == message:
                return dict(found)
        return {}

    def metric(self, name: str) -> float | None:
        """Return the value of a metric of the call."""
        for line in self.log.splitlines():
            if line.startswith('{"_aws"') and name in (found := json.loads(line)):
                return float(found[name][0])
        return None


@dataclass
class Call:
    """
    One call of the function, under way or ended.

    Attributes:
        was_seen_gone: Its process id may be another's by now.
    """

    pid: int
    folder: Path
    was_seen_gone: bool = False

    @property
    def is_over(self) -> bool:
        """Whether its process is gone."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def kill(self) -> None:
        """Kill it, as the platform does: no handler runs, and nothing is said."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, timeout_seconds: float = NEVER_SECONDS) -> None:
        """
        Wait until its process is gone.

        Raises:
            NoAnswer: It was not, in time; it is killed then.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self.is_over:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise NoAnswer(f"no answer in {timeout_seconds} s:\n{self.log}")
            time.sleep(0.005)
        self.was_seen_gone = True

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()

    def has_logged(self, text: str) -> bool:
        """Say whether its log has *text*."""
        return text in self.log

    def wait_for_log(self, text: str, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """
        Wait until its log has *text*.

        Raises:
            NoAnswer: It ended, or took too long, without it.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self.has_logged(text):
            if self.is_over or time.monotonic() > deadline:
                if self.has_logged(text):
                    return
                raise NoAnswer(f"never logged {text!r}:\n{self.log}")
            time.sleep(0.005)

    def answer(self, timeout_seconds: float = NEVER_SECONDS) -> Answer:
        """Wait for it and return what came of it."""
        self.wait(timeout_seconds)
        file = self.folder / "answer"
        if not file.exists():
            raise NoAnswer(f"the process ended without an answer; its log ends {self.log[-300:]!r}")
        (found,) = json.loads(file.read_text())
        return _answer(found, self.log)


def _answer(found: dict[str, Any], log: str) -> Answer:
    return Answer(found["response"] or {}, found["error"] and Raised(**found["error"]), log)


class Container:
    """
    The function, warm.

    Args:
        variables: The function's environment, and where its AWS is.

    Attributes:
        latest: The call that was begun last.
    """

    latest: Call

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def __enter__(self) -> Self:
        self._begun: list[Call] = []
        self._folder = Path(tempfile.mkdtemp(prefix="day2-calls-"))
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | self._variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._calls = 0
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=PATIENCE_SECONDS)
        subprocess.run(["rm", "-rf", str(self._folder)], check=True)

    def begin(
        self,
        event: object,
        *,
        seconds: float = 60.0,
        variables: Mapping[str, str] | None = None,
        ini: Path | None = None,
        request_id: str | None = None,
        events: Sequence[object] = (),
    ) -> Call:
        """
        Begin a call; *seconds* is the function's timeout, and *ini* another history.

        *variables* are set on top of the container's, for this call.
        """
        self._calls += 1
        folder = self._folder / str(self._calls)
        folder.mkdir()
        (folder / "log").touch()
        order = {
            "events": list(events) or [event],
            "seconds": seconds,
            "variables": dict(variables or {}),
            "ini": str(ini) if ini else None,
            "request_id": request_id or f"call-{self._calls}",
            "folder": str(folder),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self.latest = Call(int(self._read()), folder)
        self._begun.append(self.latest)
        return self.latest

    def end_all(self) -> None:
        """Kill the calls that still run, as a test that failed in their middle leaves them."""
        for call in self._begun:
            if not (call.was_seen_gone or (call.folder / "answer").exists()):
                call.kill()
        self._begun.clear()

    def call(self, event: object, **options: Any) -> Answer:
        """Carry out a whole call."""
        return self.begin(event, **options).answer()

    def call_each(self, events: Sequence[object], **options: Any) -> list[Answer]:
        """Carry out many calls, one after another in one process, as a warm container does."""
        call = self.begin(None, events=events, **options)
        call.wait()
        found = json.loads((call.folder / "answer").read_text())
        return [_answer(one, call.log) for one in found]

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise NoAnswer("the container did not start")
        return line


def main() -> None:
    """Load the function, then fork for each order on standard input."""
    for name in OF_A_RUN:
        importlib.import_module(name)
    from core.revisions.runner import Revisions
    from handlers.application import application
    from handlers.dispatcher import handler
    from handlers.reporting import logger
    from tests.equipment.histories import OURS

    # As a warm container has them; a connection is opened by none of this.
    warm = application()
    # What is deployed may be anybody's.
    vars(warm)["revisions"] = Revisions(folder=OURS)
    _ = warm.revisions.checksums
    for service in SERVICES:
        # The first error of a service has all of its errors made.
        _ = warm.aws._client(service).exceptions

    def carry_out(order: dict[str, Any]) -> None:
        os.environ.update(order["variables"])
        if (level := os.environ.get("POWERTOOLS_LOG_LEVEL", "INFO")) == "DEBUG":
            # As Lambda's own logging control does at DEBUG: everybody's lines, not only ours.
            logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
        logger.setLevel(level)
        if order["variables"] or order["ini"]:
            _make_anew(warm, order["ini"])
        # What the platform does when the time is over, and nobody can catch.
        signal.setitimer(signal.ITIMER_REAL, order["seconds"])
        context = _context(order)
        answers = []
        for event in order["events"]:
            response, error = None, None
            try:
                response = handler(event, context)
            except Exception as raised:  # noqa: BLE001 - the platform takes any
                error = _told(raised)
            answers.append({"response": response, "error": error})
        file = Path(order["folder"]) / "answer"
        file.with_suffix(".part").write_text(json.dumps(answers))
        file.with_suffix(".part").rename(file)

    # A child whose garbage collector looks at what we hold copies it.
    gc.collect()
    gc.freeze()
    # Nobody waits for the children here, so none becomes a zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(Path(order["folder"]) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            carry_out(order)
        finally:
            os._exit(0)


def _make_anew(warm: Application, ini: str | None) -> None:
    """Make the application of a call that has variables or a history of its own."""
    from core.aws.account import Aws
    from core.revisions.runner import Revisions
    from handlers.application import application

    application.cache_clear()
    ours = application()
    if ini:
        vars(ours)["revisions"] = Revisions(Path(ini))
    elif not ours.settings.migrations:
        vars(ours)["revisions"] = warm.revisions
    vars(ours)["aws"] = Aws(ours.settings, warm.aws._session)
    # At DEBUG a client tells from its making on.
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        ours.aws._clients.update(warm.aws._clients)


def _context(order: Mapping[str, Any]) -> SimpleNamespace:
    """Return what Lambda hands over beside the event."""
    end = time.monotonic() + order["seconds"]
    return SimpleNamespace(
        aws_request_id=order["request_id"],
        function_name="day2-dispatcher",
        memory_limit_in_mb="256",
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:day2-dispatcher",
        get_remaining_time_in_millis=lambda: int((end - time.monotonic()) * 1000),
    )


def _told(error: Exception) -> dict[str, str | None]:
    """Return the fields of ``Raised``."""
    return {
        "kind": type(error).__name__,
        "text": str(error),
        "outcome": getattr(error, "outcome", None),
        "everything": _everything(error),
    }


def _everything(error: BaseException) -> str:
    """Return all that *error* and those behind it say and hold."""
    parts = ["".join(traceback.format_exception(error))]
    seen: list[BaseException] = []
    queue = [error]
    while queue:
        one = queue.pop()
        if one in seen:
            continue
        seen.append(one)
        parts += [repr(one), repr(one.args), repr(vars(one))]
        queue += [other for other in (one.__cause__, one.__context__) if other]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
