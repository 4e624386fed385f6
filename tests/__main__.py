"""
Every test, on two cores side by side.

    python -m tests

What needs a local AWS has the mark ``local_aws``: the first core does all of that, one local AWS
after the other. The second does all else, in parts; the first takes of them what is left when it is
through. The first prints as it goes, the second when both have ended. The parts share nothing: each
pytest has servers of its own. ``pytest tests/…`` runs any of them alone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parent.parent

ON_LOCAL_AWS, ALL_OTHERS = "local_aws", "not local_aws"

# Those that take longest, and so are parts by themselves, the longest first; a new folder is run
# with all else.
LONG = [str(Path("tests", name)) for name in ("integration", "runner", "security", "chaos")]


def main() -> int:
    """Run all parts; return 0 if every test passed."""
    # Whoever ends us ends them in order, also where a shell that put us into the background
    # has told us to ignore interrupts.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        is_good = side_by_side(Core(), Core(output))
        output.seek(0)
        sys.stdout.write(output.read())
        sys.stdout.flush()
    return 0 if is_good else 1


def side_by_side(first: Core, second: Core) -> bool:
    """Run the parts on two cores; return whether all passed, having named those that did not."""
    parts = deque([path, "-m", ALL_OTHERS] for path in LONG)
    parts.append(["tests", "-m", ALL_OTHERS, *(f"--ignore={path}" for path in LONG)])
    try:
        second.begin(parts.popleft())
        on_local_aws = deque([*paths, "-m", ON_LOCAL_AWS] for paths in sessions())
        while on_local_aws or parts or first.is_busy or second.is_busy:
            if not first.is_busy and (on_local_aws or parts):
                first.begin((on_local_aws or parts).popleft())
            if not second.is_busy and parts:
                second.begin(parts.popleft())
            time.sleep(0.1)
    finally:
        for one in (first, second):
            one.interrupt()
        for one in (first, second):
            one.wait()
    failed = first.failed + second.failed
    for arguments in failed:
        sys.stderr.write(f"failed: {' '.join(arguments)}\n")
    return not failed


class Core:
    """
    One pytest after the other.

    Args:
        output: Where they print to; where we do, without one.

    Attributes:
        failed: The arguments of those that failed.
    """

    def __init__(self, output: IO[str] | None = None) -> None:
        self._output = output
        self._arguments: Sequence[str] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self.failed: list[Sequence[str]] = []

    def begin(self, arguments: Sequence[str]) -> None:
        """
        Start pytest with *arguments*.

        An interrupt reaches it once, through us: a second one would end its cleaning up.
        """
        self._arguments = arguments
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT if self._output else None,
            start_new_session=True,
        )

    @property
    def is_busy(self) -> bool:
        """Whether one runs; take note of how it ended, once it has."""
        if self._process is None:
            return False
        status = self._process.poll()
        if status is None:
            return True
        if status:
            self.failed.append(self._arguments)
        self._process = None
        return False

    def interrupt(self) -> None:
        """Interrupt the one that runs, if any."""
        if self.is_busy and self._process is not None:
            self._process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        """Wait until it has cleaned up."""
        if self._process is not None:
            self._process.wait()


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


if __name__ == "__main__":
    sys.exit(main())
