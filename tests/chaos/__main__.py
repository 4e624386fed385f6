"""``make chaos``: every fault, many times, and a table of what came of it."""

# ruff: noqa: T201 - a program that prints

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from infra.local import shell
from tests.chaos.cases import CASES, SILENT_CASES, Case, Row
from tests.equipment.world import World

# Those that come after it are given up, and say so: the whole ends within ten minutes.
LAST_BEGIN_SECONDS = 480.0


def run(cases: Sequence[Case], *, short: bool, begun: float) -> list[Row]:
    """Try *cases* one after another in a world of their own; print each row as it is known."""
    rows = []
    with World.made() as world:
        world.learn_golden()
        for case in cases:
            if time.monotonic() - begun > LAST_BEGIN_SECONDS:
                row = Row(case.run.__name__, wrong=["no time was left for it"])
            else:
                try:
                    row = case.run(world, case.short_tries if short else case.tries)
                except Exception as error:  # noqa: BLE001 - a case that breaks is a bad verdict
                    row = Row(case.run.__name__, wrong=[f"{type(error).__name__}: {error}"])
            rows.append(row)
            _print(row)
    return rows


def run_all(*, short: bool) -> list[Row]:
    """Try every case; those that wait for silence beside the others."""
    shell.forget()
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        found = [
            pool.submit(run, cases, short=short, begun=begun) for cases in (SILENT_CASES, CASES)
        ]
        return [row for one in found for row in one.result()]


def _print(row: Row) -> None:
    seen = ", ".join(f"{count} {what}" for what, count in sorted(row.seen.items()))
    worst = f"; longest {row.worst_seconds:.1f} s" if row.worst_seconds else ""
    lost = f"{row.lost} revisions" if row.lost else "nothing"
    verdict = "good" if row.is_good else "BAD"
    print(f"{row.fault:<31} {row.tries:>5}  {lost:<12} {verdict:<7} {seen}{worst}", flush=True)


def main() -> int:
    """Print the table, and then what did not hold; return 1 if anything did not."""
    begun = time.monotonic()
    # What runs in this process, without the function, warns of what it is made to do.
    logging.disable(logging.CRITICAL)
    print(f"{'fault':<31} {'tries':>5}  {'lost':<12} {'verdict':<7} what was seen")
    rows = run_all(short="--short" in sys.argv)
    print(f"({time.monotonic() - begun:.0f} s)")
    for row in rows:
        for problem in row.wrong:
            print(f"{row.fault}, {problem}", file=sys.stderr)
    return 0 if all(row.is_good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
