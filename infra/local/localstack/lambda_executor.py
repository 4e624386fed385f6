"""
Lambda without Docker: each execution environment is a local process under AWS's runtime client.

LocalStack picks its executor by name from ``LAMBDA_RUNTIME_EXECUTOR`` and ships with ``docker``
only.  ``DAY2_LAMBDA_PYTHON`` names the interpreter that has ``awslambdaric`` and boto3, as AWS's
runtime has.
"""

# ruff: noqa: A002, ARG002 - names of arguments are LocalStack's and http.server's.

import contextlib
import datetime as dt
import io
import json
import os
import select
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

from localstack import config
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from infra.local import processes
from infra.local.state import State

# What AWS gives a function for its imports before the first event must be taken.
INIT_SECONDS = 30
CHUNK_BYTES = 65_536


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """Makes ``LAMBDA_RUNTIME_EXECUTOR=process`` known."""

    name = "process"

    def load(self, *args: Any, **kwargs: Any) -> type[RuntimeExecutor]:
        """Return the executor."""
        return ProcessExecutor


class ProcessEnded(Exception):
    """The function's process ended before it answered."""

    def __init__(self, body: bytes, *, had_the_event: bool) -> None:
        super().__init__(body)
        self.body = body
        self.had_the_event = had_the_event


class FunctionProcess:
    """A process of a function, with a Runtime API and a log of its own; one event at a time."""

    def __init__(self, function: FunctionVersion, environment: Mapping[str, Any]) -> None:
        self.function = function
        self.events: Queue[dict[str, str] | None] = Queue()
        self.taken = threading.Event()
        self.answer: Future[tuple[bytes, bool]] = Future()
        self.ended = threading.Event()
        self.init_error: bytes | None = None
        self._log = bytearray()
        self._log_lock = threading.Lock()
        self._api = _OurUsersOnly(("127.0.0.1", 0), _runtime_api(self))
        self._api.daemon_threads = True
        pipe, log_end = os.pipe()
        os.set_blocking(pipe, False)
        self._pipe = io.FileIO(pipe)
        code = str(function.config.code.get_unzipped_code_location())
        self._temporary = tempfile.mkdtemp(prefix="function-")
        processes.give(Path(self._temporary))
        with _interpreter() as interpreter:
            variables = self._environment(environment, code, interpreter)
            self._process = subprocess.Popen(
                # The client reads no more than the handler's name; the folder is our mark on it.
                [
                    interpreter.program,
                    "-m",
                    "awslambdaric",
                    str(function.config.handler),
                    str(_state().folder),
                ],
                cwd=code,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log_end,
                stderr=log_end,
                pass_fds=interpreter.opened,
                **processes.unprivileged(),
            )
        os.close(log_end)
        self._pid_file = _state().pids / f"lambda-{self._process.pid}"
        self._pid_file.write_text(str(self._process.pid))
        for work in (self._api.serve_forever, self._follow_log, self._wait):
            threading.Thread(target=work, daemon=True).start()

    def invoke(self, event: dict[str, str], timeout_seconds: float) -> tuple[bytes, bool]:
        """
        Give *event* to the process; return its answer and whether that is an error.

        Raises:
            ProcessEnded: The process ended first.
            TimeoutError: It did not answer in time.  It still runs.
        """
        self.answer = Future()
        self.taken.clear()
        self.events.put(event)
        deadline = time.monotonic() + INIT_SECONDS
        while not self.taken.wait(0.02):
            if self.ended.is_set():
                raise ProcessEnded(self._end_as_error(), had_the_event=False)
            if time.monotonic() > deadline:
                raise TimeoutError
        return self.answer.result(timeout_seconds)

    def take_log(self) -> str:
        """Return all that the process has written since the last time."""
        with self._log_lock:
            self._read_available()
            taken = self._log.decode(errors="replace")
            self._log.clear()
        return taken

    def stop(self) -> None:
        """Kill the process, as Lambda does at a timeout."""
        self._process.kill()
        self.ended.wait()

    def _environment(
        self, given: Mapping[str, Any], code: str, interpreter: "Interpreter"
    ) -> dict[str, str]:
        """Return the process's whole environment: nothing of the developer's shell is in it."""
        runtime = str(self.function.config.runtime)
        layers = [
            f"{layer.code.get_unzipped_code_location()}/python{inside}"
            for layer in self.function.config.layers or []
            for inside in (f"/lib/{runtime}/site-packages", "")
        ]
        values = {
            name: self._at_opt(str(value)) for name, value in given.items() if value is not None
        }
        return {**values, **interpreter.variables} | {
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.server_port}",
            "LAMBDA_TASK_ROOT": code,
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            # The order of Lambda's own bootstrap: the function, its layers, the runtime's boto3.
            "PYTHONPATH": os.pathsep.join([code, *layers, *interpreter.path]),
            # A line that waits in a buffer would be overtaken by the response.
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": self._temporary,
            "TZ": "UTC",
        }

    def _at_opt(self, value: str) -> str:
        """
        Return *value*, which on AWS may be a path that a layer brought, as it is here.

        Lambda merges layers into /opt, a later one over those before. Here each has a folder.
        """
        if value.startswith("/opt/"):
            for layer in reversed(self.function.config.layers or []):
                found = Path(layer.code.get_unzipped_code_location(), value.removeprefix("/opt/"))
                if found.exists():
                    return str(found)
        return value

    def _follow_log(self) -> None:
        """Read as the process writes, so that it never waits for us."""
        readable = select.poll()
        readable.register(self._pipe, select.POLLIN)
        while not self.ended.is_set():
            if readable.poll(1000):
                with self._log_lock:
                    if not self._read_available():
                        return

    def _read_available(self) -> bool:
        """Read what is in the pipe; False at its end.  The caller holds the lock."""
        while chunk := self._pipe.read(CHUNK_BYTES):
            self._log += chunk
        return chunk is None

    def _wait(self) -> None:
        """Wait for the process's end and tell who waits for its answer."""
        self._process.wait()
        self._pid_file.unlink(missing_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)
        self.ended.set()
        if not self.answer.done():
            end = ProcessEnded(self._end_as_error(), had_the_event=self.taken.is_set())
            self.answer.set_exception(end)
        self.events.put(None)
        self._api.shutdown()
        self._api.server_close()

    def _end_as_error(self) -> bytes:
        """Return what Lambda answers for an ended process: its error at import, or how it ended."""
        if self.init_error:
            return self.init_error
        status = self._process.returncode
        how = f"exit status {status}" if status >= 0 else f"signal {-status}"
        return error_body("Runtime.ExitError", f"Runtime exited with error: {how}")


class ProcessExecutor(RuntimeExecutor):
    """One execution environment.  LocalStack starts another when all are busy."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id, function_version)
        self.environment: dict[str, str] = {}
        self.process: FunctionProcess | None = None

    def start(self, env_vars: dict[str, str]) -> None:
        """Start the process."""
        self.environment = env_vars
        self._living_process()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Invoke the function, in another process if the one it had is dead."""
        request_id, timeout_seconds = payload["invoke-id"], self.function_version.config.timeout
        begin = time.monotonic()
        process = self._living_process()
        is_error, remark = True, ""
        try:
            try:
                body, is_error = process.invoke(payload, timeout_seconds)
            except ProcessEnded as error:
                if error.had_the_event or process.init_error:
                    raise
                process = self._living_process()
                body, is_error = process.invoke(payload, timeout_seconds)
        except ProcessEnded as error:
            body = error.body
            remark = f"{json.loads(body)['errorMessage']}\n"
        except TimeoutError:
            process.stop()
            said = f"Task timed out after {timeout_seconds}.00 seconds"
            body = error_body("Sandbox.Timedout", f"RequestId: {request_id} Error: {said}")
            now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
            remark = f"{now} {request_id} {said}\n"
        written = process.take_log()
        if written and not written.endswith("\n"):
            written += "\n"
        # The lines that Lambda puts around each call.
        log = (
            f"START RequestId: {request_id} Version: {self.function_version.id.qualifier}\n"
            f"{written}{remark}"
            f"END RequestId: {request_id}\n"
            f"REPORT RequestId: {request_id}\t"
            f"Duration: {(time.monotonic() - begin) * 1000:.2f} ms\t"
            f"Memory Size: {self.function_version.config.memory_size} MB\n"
        )
        # AWS's answer holds the last 4 KB of it only.
        (_state().calls / f"{request_id}.log").write_text(log)
        return InvocationResult(request_id, body, is_error=is_error, logs=log)

    def _living_process(self) -> FunctionProcess:
        """Return the process, which is another when the last one has ended."""
        if self.process is None or self.process.ended.is_set():
            self.process = FunctionProcess(self.function_version, self.environment)
        return self.process

    def stop(self) -> None:
        """End the process."""
        if self.process:
            self.process.stop()

    def get_address(self) -> str:
        """Return where the process is."""
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        """Return where LocalStack is for the process."""
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        """Return the callback of LocalStack's own runtime client, which is not in use here."""
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/_unused/{self.id}"

    def get_logs(self) -> str:
        """Return what the process wrote outside any call."""
        return self.process.take_log() if self.process else ""

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Unzip the function and its layers."""
        layers = [layer.code for layer in function_version.config.layers or []]
        for code in (function_version.config.code, *layers):
            code.prepare_for_execution()
            _open(code.get_unzipped_code_location())

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Keep the files: another version may share them, and ``make down`` removes them."""


@dataclass(frozen=True)
class Interpreter:
    """The Python of functions, as their user can reach it."""

    program: str
    variables: Mapping[str, str]
    path: tuple[str, ...]
    opened: tuple[int, ...]


@contextlib.contextmanager
def _interpreter() -> Iterator[Interpreter]:
    """
    Return the interpreter for the start of a process.

    The home of root, where Python or the checkout may lie, is closed to ``nobody``.  Then the
    process gets the folders that it needs of it open, and reaches them past what is above.
    """
    given = Path(os.environ["DAY2_LAMBDA_PYTHON"])
    real = given.resolve()
    (packages,) = given.parents[1].glob("lib/python3*/site-packages")
    if not processes.unprivileged() or all(map(_anybody_enters, (given, real, packages))):
        yield Interpreter(str(given), {}, (), ())
        return
    folders = (real.parents[1], packages)
    opened = tuple(os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in folders)
    home, libraries = (f"/proc/self/fd/{number}" for number in opened)
    variables = {"PYTHONHOME": home, "LD_LIBRARY_PATH": f"{home}/lib"}
    try:
        yield Interpreter(f"{home}/bin/{real.name}", variables, (libraries,), opened)
    finally:
        for number in opened:
            os.close(number)


def _anybody_enters(path: Path) -> bool:
    """Tell whether every folder above *path* lets everybody pass."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def _open(folder: Path) -> None:
    """Let the function's user read *folder*, and pass what is above it, whatever our umask is."""
    for above in folder.parents:
        if not above.is_relative_to(_state().folder):
            break
        above.chmod(above.stat().st_mode | 0o011)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o044 | (0o011 if mode & stat.S_IXUSR else 0))


def error_body(kind: str, message: str) -> bytes:
    """Return an error as Lambda answers it."""
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def _state() -> State:
    return State(Path(os.environ["DAY2_LOCAL_STATE"]))


class _OurUsersOnly(ThreadingHTTPServer):
    """Hands events to the function's process, and to nobody else on this machine."""

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Tell whether the function's user is at the other end."""
        user = processes.unprivileged().get("user", os.getuid())
        return processes.user_of_port(client_address[1]) in (user, None)


def _runtime_api(process: FunctionProcess) -> type[BaseHTTPRequestHandler]:
    """
    Return the handler of the Lambda Runtime API for *process*.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
    """

    class RuntimeApi(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Sent at once: for the body behind the head, the other end would wait 40 ms.
        wbufsize = -1

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

        def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
            self.send_response(status)
            # Without a content type the client's native part crashes and says nothing.
            fixed = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            for name, value in {**fixed, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def client_is_gone(self) -> bool:
            """Tell whether the process died while it waited: then the event is not its."""
            try:
                return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True

        def do_GET(self) -> None:
            """Answer ``…/runtime/invocation/next``."""
            event = process.events.get()
            if event is None:
                self.close_connection = True
                return
            if self.client_is_gone():
                process.events.put(event)
                self.close_connection = True
                return
            timeout_seconds = process.function.config.timeout
            process.taken.set()
            self.reply(
                200,
                event["payload"].encode(),
                {
                    "Lambda-Runtime-Aws-Request-Id": event["invoke-id"],
                    "Lambda-Runtime-Deadline-Ms": str(int((time.time() + timeout_seconds) * 1000)),
                    "Lambda-Runtime-Invoked-Function-Arn": event["invoked-function-arn"],
                    "Lambda-Runtime-Trace-Id": event.get("trace-id") or "",
                },
            )

        def do_POST(self) -> None:
            """Take ``…/invocation/ID/response``, ``…/invocation/ID/error`` and ``…/init/error``."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            what = self.path.split("/")[3:]
            if what[0] == "init":
                process.init_error = body
            elif not process.answer.done():
                # The process wrote its log before it sent this, so all of it is in the pipe by now.
                process.answer.set_result((body, what[2] == "error"))
            self.reply(202)

    return RuntimeApi
