"""
Every test, in parts side by side.

    python -m tests

A part is a pytest of its own, with servers of its own, and shares nothing with the others; what has
the mark ``local_aws`` is run apart from all else. Most of its time a test waits for a server, a
lock or a clock: so there are two lanes for each of the two cores that a machine has at least. Each
lane takes the next part when it is through. The first prints as it goes, the others when all have
ended. ``pytest tests/…`` runs any of them alone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parent.parent

ON_LOCAL_AWS, ALL_OTHERS = "local_aws", "not local_aws"

# Two parts each, for two lanes.
LONG = ("integration", "runner")
# Parts by themselves; a new folder is run with all else.
SHORTER = ("security", "chaos")

LANES = 4


def main() -> int:
    """Run all parts; return 0 if every test passed."""
    # Whoever ends us ends them in order, also where a shell that put us into the background
    # has told us to ignore interrupts.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)
    with ExitStack() as files:
        outputs = [
            files.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            for _ in range(LANES - 1)
        ]
        is_good = side_by_side([Lane(), *map(Lane, outputs)], parts())
        for output in outputs:
            output.seek(0)
            sys.stdout.write(output.read())
        sys.stdout.flush()
    return 0 if is_good else 1


def parts() -> deque[list[str]]:
    """
    Return the arguments of each pytest, the longest first.

    Each folder with the mark ``alone`` has a local AWS to itself; all else that needs one shares
    one: the role is held to the calls of those before it, and ``tests/security`` puts it behind
    them.
    """
    found = Collected()
    with redirect_stdout(StringIO()) as said:
        status = pytest.main(["tests", "-m", ON_LOCAL_AWS, "--collect-only", "-q"], plugins=[found])
    if status:
        raise SystemExit(f"{said.getvalue()}\nno test was run on the local AWS")
    long, shorter = ([str(Path("tests", name)) for name in names] for names in (LONG, SHORTER))
    rest = [f"--ignore={path}" for path in long + shorter]
    return deque(
        [
            [*sorted(found.together), "-m", ON_LOCAL_AWS],
            *([*half, "-m", ALL_OTHERS] for path in long for half in halves_of(path)),
            *([path, "-m", ON_LOCAL_AWS] for path in sorted(found.alone)),
            ["tests", "-m", ALL_OTHERS, *rest],
            *([path, "-m", ALL_OTHERS] for path in shorter),
        ]
    )


def halves_of(folder: str) -> list[list[str]]:
    """Return the files of *folder* with tests, every second one in the other list."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("test_*.py"))
    return [files[::2], files[1::2]]


def side_by_side(lanes: Sequence[Lane], waiting: deque[list[str]]) -> bool:
    """Run the parts in *lanes*; return whether all passed, having named those that did not."""
    try:
        while waiting or any(lane.is_busy for lane in lanes):
            for lane in lanes:
                if waiting and not lane.is_busy:
                    lane.begin(waiting.popleft())
            time.sleep(0.1)
    finally:
        for lane in lanes:
            lane.interrupt()
        for lane in lanes:
            lane.wait()
    failed = [part for lane in lanes for part in lane.failed]
    for arguments in failed:
        sys.stderr.write(f"failed: {' '.join(arguments)}\n")
    return not failed


class Lane:
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
