"""
Measure, print the table, and write ``build/benchmarks/result.json``.

    python -m tests.benchmarks [cold|imports|warm|slope|applying|memory|sizes|fleet …]

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
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version

from infra.environments import MADE
from infra.local.local_aws import LocalAws
from infra.local.state import State, free_port
from tests.benchmarks.databases import Databases
from tests.benchmarks.functions import Account, Trees
from tests.benchmarks.peers import Peers, install
from tests.benchmarks.rows import Bench, Row

OUTPUT = MADE / "build" / "benchmarks"
LIBRARIES = ("alembic", "SQLAlchemy", "psycopg2-binary", "aws-lambda-powertools", "boto3")


def main() -> int:
    """Run it all; return the exit status."""
    begin = time.monotonic()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with bench() as measured:
        conditions = described(measured)
        print(_facts(conditions, measured.peers), flush=True)
        rows = []
        for row in measured.rows(sys.argv[1:]):
            rows.append(row)
            print(line(row), flush=True)
    seconds = time.monotonic() - begin
    missed = [row for row in rows if row.is_met is False]
    print(f"\n{len(rows)} rows in {seconds:.0f} s, {len(missed)} not met")
    result = {
        "conditions": conditions | {"seconds": round(seconds)},
        "missing_peers": measured.peers.missing,
        "rows": [asdict(row) | {"is_met": row.is_met} for row in rows],
    }
    (OUTPUT / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return 1 if missed else 0


@contextmanager
def bench() -> Iterator[Bench]:
    """Start what is measured on, and leave nothing of it behind."""
    LocalAws.clean_abandoned()
    aws = LocalAws(State.of_process("bench"))
    aws.state.make()
    folder = aws.state.folder / "bench"
    folder.mkdir(mode=0o711)
    databases: Databases | None = None
    try:
        databases = Databases.start(folder)
        peers = install(OUTPUT, databases)
        trees = Trees.build(folder)
        aws.up(port=free_port())
        yield Bench(folder, databases, trees, Account.prepare(aws), peers)
    finally:
        if databases is not None:
            databases.server.remove()
        aws.clean()
        shutil.rmtree(folder, ignore_errors=True)


def described(measured: Bench) -> dict[str, object]:
    """Return where and with what it is measured."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "server": f"PostgreSQL {measured.databases.server.version}, TLS verify-full, SCRAM, fsync",
        "libraries": {name: version(name) for name in LIBRARIES},
        "peers": {peer.name: peer.version for peer in measured.peers.found},
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


def _facts(conditions: dict[str, object], peers: Peers) -> str:
    lines = [f"{name}: {value}" for name, value in conditions.items()]
    lines += [f"missing: {name} ({why})" for name, why in peers.missing.items()]
    head = f"\n{'measure':<36} {'value':>7} {'limit':>7}  {'verdict':<9} {'against':<28} medians"
    return "\n".join(lines) + "\n" + head


if __name__ == "__main__":
    sys.exit(main())
