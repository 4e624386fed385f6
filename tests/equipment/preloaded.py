"""
``python -m`` of a module, in a process that has others' libraries already.

Run as a program, it imports them once and then forks for each line that it reads; of ours it has
nothing, so that each command loads what it is about. Used from a test, ``run`` starts that program
and hands it commands: to import SQLAlchemy and Alembic costs four times what a command does.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

OF_OTHERS = (
    "alembic.command",
    "alembic.config",
    "botocore.session",
    "logging.config",
    "mako.template",
    "psycopg2.extras",
    "sqlalchemy.dialects.postgresql.psycopg2",
)

_one_by_one = threading.Lock()


def run(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run *module* with *arguments* as ``python -m`` would, and return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        out, error = Path(folder, "out"), Path(folder, "error")
        order = {
            "module": module,
            "arguments": arguments,
            "cwd": str(cwd),
            "env": dict(env),
            "outputs": [str(out), str(error)],
        }
        with _one_by_one:
            program = _program()
            assert program.stdin
            assert program.stdout
            program.stdin.write(json.dumps(order) + "\n")
            program.stdin.flush()
            status = int(program.stdout.readline())
        return subprocess.CompletedProcess(
            [module, *arguments], status, out.read_text(), error.read_text()
        )


@functools.cache
def _program() -> subprocess.Popen[str]:
    """Start the program; it ends with us."""
    program = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(program.communicate)
    return program


def main() -> None:
    """Load what is others', then fork for each command on standard input, and say how it ended."""
    for name in OF_OTHERS:
        importlib.import_module(name)
    # A child that looks at what we hold, or frees it, copies it.
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            # What it raises ends this process as it would end one of its own.
            try:
                _become(**json.loads(line))
            except SystemExit as ended:
                if isinstance(ended.code, str):
                    raise
                _end(ended.code or 0)
            _end(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(
    module: str, arguments: list[str], cwd: str, env: dict[str, str], outputs: list[str]
) -> None:
    """Be the process of *module*."""
    for number, name in enumerate((os.devnull, *outputs)):
        file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    # The first is our own folder.
    sys.path[:1] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end(status: int) -> None:
    """End this process, with all that it has to do before, and without freeing what we hold."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
