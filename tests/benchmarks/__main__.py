"""
Measure, print the table, and write ``build/benchmarks/result.json``.

    python -m tests.benchmarks [cold|imports|warm|slope|applying|memory|sizes|fleet …]

Only what the rows that are asked for need is started.
Ends with status 1 if a limit is not kept. Nothing is random: revisions and events are the same in
every run, and only ratios of what took turns are judged.
"""

# ruff: noqa: T201 - the table is what this is for.

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version

from infra.environments import MADE
from infra.local import shell
from infra.local.local_aws import LocalAws
from infra.local.state import State
from tests.benchmarks.rows import Bench, Row

OUTPUT = MADE / "build" / "benchmarks"
SERVER = "TLS verify-full, SCRAM, fsync"
HEAD = f"\n{'measure':<36} {'value':>7} {'limit':>7}  {'verdict':<9} {'against':<28} medians"
LIBRARIES = ("alembic", "SQLAlchemy", "psycopg2-binary", "aws-lambda-powertools", "boto3")


def main() -> int:
    """Run what is asked for, or all; return the exit status."""
    shell.forget()
    begin = time.monotonic()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:]
    with bench() as measured:
        unknown = sorted({*wanted} - {*measured.groups})
        if unknown:
            known = ", ".join(measured.groups)
            print(f"no rows are called {', '.join(unknown)}: {known}", file=sys.stderr)
            return 2
        conditions = described()
        print("\n".join(f"{name}: {value}" for name, value in conditions.items()))
        print(HEAD, flush=True)
        rows = []
        for row in measured.rows(wanted):
            rows.append(row)
            print(line(row), flush=True)
        peers = measured.peers if "peers" in vars(measured) else None
        server = measured.databases.server.version
    seconds = time.monotonic() - begin
    missed = [row for row in rows if row.is_met is False]
    for name, why in peers.missing.items() if peers else ():
        print(f"missing: {name} ({why})")
    print(f"\n{len(rows)} rows in {seconds:.0f} s, {len(missed)} not met")
    conditions |= {"seconds": round(seconds), "server": f"PostgreSQL {server}, {SERVER}"}
    result: dict[str, object] = {
        "conditions": conditions,
        "rows": [asdict(row) | {"is_met": row.is_met} for row in rows],
    }
    if peers:
        result["peers"] = {peer.name: peer.version for peer in peers.found}
        result["missing_peers"] = peers.missing
    (OUTPUT / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return 1 if missed else 0


@contextmanager
def bench() -> Iterator[Bench]:
    """Prepare what is measured on, and leave nothing of it behind."""
    LocalAws.clean_abandoned()
    aws = LocalAws(State.of_process("bench"))
    aws.state.make()
    folder = aws.state.folder / "bench"
    folder.mkdir(mode=0o711)
    with ExitStack() as ends:
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        ends.callback(aws.clean)
        yield Bench(folder, OUTPUT, aws, ends)


def described() -> dict[str, object]:
    """Return where and with what it is measured."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "seed": "none: nothing is drawn by chance",
    }


def line(row: Row) -> str:
    """Return *row* as a line of the table."""
    limit = "" if row.limit is None else f"≤ {row.limit:g}"
    verdict = {True: "met", False: "NOT MET", None: "beside us"}[row.is_met]
    return (
        f"{row.measure:<36} {row.value:>7.2f} {limit:>7}  {verdict:<9} "
        f"{row.against:<28} {row.detail}"
    ).rstrip()


if __name__ == "__main__":
    sys.exit(main())
