"""
Every test, in two halves side by side, one a core.

    python -m tests

What needs a local AWS has the mark ``local_aws``. The first half is all of that, and then the
folders that wait more than they work; the second is all else. The first prints as it goes, the
second when both have ended. They share nothing: each pytest has servers of its own.
``pytest tests/…`` runs any part of them alone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parent.parent

ON_LOCAL_AWS, ALL_OTHERS = "local_aws", "not local_aws"

# They make the two halves about as long; a new folder is run with all else.
IN_THE_FIRST_HALF = [str(Path("tests", name)) for name in ("chaos", "runner", "security")]


def main() -> int:
    """Run both halves; return 0 if every test passed."""
    # Whoever ends us ends them in order, also where a shell that put us into the background
    # has told us to ignore interrupts.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        running(
            ["tests", "-m", ALL_OTHERS, *(f"--ignore={path}" for path in IN_THE_FIRST_HALF)],
            output,
        ) as others,
    ):
        failed = []
        # All of them, whatever becomes of the first.
        for paths in sessions():
            with running([*paths, "-m", ON_LOCAL_AWS]) as one:
                if one.wait():
                    failed.append(" ".join(paths))
        with running([*IN_THE_FIRST_HALF, "-m", ALL_OTHERS]) as one:
            if one.wait():
                failed.append(" ".join(IN_THE_FIRST_HALF))
        is_good = others.wait() == 0
        output.seek(0)
        sys.stdout.write(output.read())
        sys.stdout.flush()
    if failed:
        sys.stderr.write(f"failed before: {', '.join(failed)}\n")
    return 0 if is_good and not failed else 1


def sessions() -> list[list[str]]:
    """
    Return what shares a local AWS, in the order to run it: paths of folders or of files.

    First each folder that has one to itself, then all else together: the role is held to the
    calls of those before it, and ``tests/security`` puts it behind them.
    """
    found = Collected()
    with redirect_stdout(StringIO()) as said:
        status = pytest.main(["tests", "-m", ON_LOCAL_AWS, "--collect-only", "-q"], plugins=[found])
    if status:
        raise SystemExit(f"{said.getvalue()}\nno test was run on the local AWS")
    return [[folder] for folder in sorted(found.alone)] + [sorted(found.together)]


class Collected:
    """What pytest has collected: the folders that are ``alone``, and the files of all others."""

    def __init__(self) -> None:
        self.alone: set[str] = set()
        self.together: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take note of where each test is."""
        for item in session.items:
            path = item.path.relative_to(ROOT)
            if item.get_closest_marker("alone"):
                self.alone.add(str(Path(*path.parts[:2])))
            else:
                self.together.add(str(path))


@contextmanager
def running(
    arguments: Sequence[str], output: IO[str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run pytest with *arguments*; it prints to *output*, or where we do.

    An interrupt reaches it once, through us: a second one would end its cleaning up.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
