"""Measuring side by side: what is compared takes turns, and only ratios are judged."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """The values of each side, one a round; in milliseconds unless said otherwise."""

    values: Mapping[str, Sequence[float]]

    def median(self, side: str) -> float:
        """Return the median of *side*."""
        return statistics.median(self.values[side])

    def ratio(self, side: str, against: str) -> float:
        """Return the median of the rounds' ratios: what disturbs a round disturbs both sides."""
        pairs = zip(self.values[side], self.values[against], strict=True)
        return statistics.median(one / other for one, other in pairs)


def take_turns(
    rounds: int, sides: Mapping[str, Callable[[], float]], *, warm_up: bool = True
) -> Measured:
    """Measure every side once a round, after a round that only warms up unless told otherwise."""
    values: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(0 if warm_up else 1, rounds + 1):
        # Every other round backwards, so that nobody always runs in another's wake.
        for name in list(sides)[:: 1 if number % 2 else -1]:
            value = sides[name]()
            if number:
                values[name].append(value)
    return Measured(values)


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long *work* takes."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its wall time, and the most memory it ever held."""

    wall_ms: float
    peak_mb: float
    output: str


class CommandFailed(Exception):
    """A command that is measured ended with an error; the message holds what it printed."""


def run(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path | None = None
) -> Ended:
    """
    Run *command* to its end, from its start to its exit status.

    Raises:
        CommandFailed: It failed.
    """
    read, write = os.pipe()
    begin = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.STDOUT,
    )
    os.close(write)
    with os.fdopen(read, errors="replace") as pipe:
        output = pipe.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_ms = (time.perf_counter() - begin) * 1000
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CommandFailed(f"{command[0]} ended with {process.returncode}:\n{output[-3000:]}")
    # Linux counts in KiB, macOS in bytes.
    unit = 1024**2 if os.uname().sysname == "Darwin" else 1024
    return Ended(wall_ms, usage.ru_maxrss / unit, output)
