"""The first invocation of a new Lambda process, by AWS's own runtime client."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from infra.local.local_aws import interpreter

MOST_SECONDS = 60
TIMEOUT_MS = 300_000


class InvocationFailed(Exception):
    """The function did not answer with a success; the message holds its answer and its log."""


@dataclass
class _Call:
    """One event, and what came back."""

    event: object
    answered: threading.Event = field(default_factory=threading.Event)
    body: Any = None
    at: float = 0.0

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return a Runtime API that hands the event out once (AWS Lambda, "Runtime API")."""
        call = self
        taken = threading.Lock()

        class Api(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                # The process is ended while it waits for a second event.
                taken.acquire()
                body = json.dumps(call.event).encode()
                self.send_response(200)
                for name, value in {
                    # Without a content type the client's native part crashes and says nothing.
                    "Content-Type": "application/json",
                    "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                    "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + TIMEOUT_MS),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:0:function:f",
                    "Lambda-Runtime-Trace-Id": "Root=1-5e1b4151-5ac6c58f5b5dbd6b5a1e3a26;Sampled=1",
                    "Content-Length": str(len(body)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                call.at = time.perf_counter()
                call.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                call.answered.set()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Api


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: the process is killed while it waits for its next event."""


@dataclass(frozen=True)
class Function:
    """
    A function as Lambda would unpack it.

    Attributes:
        handler: Such as ``handlers.dispatcher.handler``.
        environment: Its variables, those that AWS's clients need among them.
    """

    code: Path
    layer: Path
    handler: str
    environment: Mapping[str, str]

    def first_call(self, event: object, log: Path) -> float:
        """
        Return the milliseconds from the start of a new process to its answer.

        Raises:
            InvocationFailed: It failed, or did not answer in time.
        """
        call = _Call(event)
        api = _Server(("127.0.0.1", 0), call.handler())
        threading.Thread(target=api.serve_forever, daemon=True).start()
        with log.open("w+") as output:
            begin = time.perf_counter()
            process = subprocess.Popen(
                [interpreter("lambda"), "-m", "awslambdaric", self.handler],
                cwd=self.code,
                env=self.variables(f"127.0.0.1:{api.server_port}"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                while not call.answered.wait(1):
                    if process.poll() is not None or time.perf_counter() - begin > MOST_SECONDS:
                        break
            finally:
                process.kill()
                process.wait()
                api.shutdown()
                api.server_close()
        if not isinstance(call.body, dict) or call.body.get("statusCode") != 200:
            raise InvocationFailed(f"{call.body}\n{log.read_text()[-4000:]}")
        return (call.at - begin) * 1000

    def variables(self, api: str = "") -> dict[str, str]:
        """Return the whole environment of its process, as Lambda makes it."""
        return {
            **self.environment,
            "AWS_LAMBDA_RUNTIME_API": api,
            "AWS_LAMBDA_FUNCTION_NAME": "benchmark",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "LAMBDA_TASK_ROOT": str(self.code),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            # Lambda's file system is read-only: what has no byte code gets none.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{self.code}{os.pathsep}{self.layer}",
            "TZ": "UTC",
        }
