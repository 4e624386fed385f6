"""The servers that a folder is tried on, each in a process of its own, and what came of them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from core.revisions.folder import Folder
from core.revisions.runner import Revisions
from infra.local.postgres.certificates import Authority
from infra.local.postgres.programs import Programs
from infra.local.postgres.server import Server
from infra.local.state import State
from infra.trial.database import DATABASE, TrialDatabase
from infra.trial.proofs import Proofs


class Outcome(NamedTuple):
    """What came of one server: lines to print, the number of faults in them, and what was made."""

    major: int
    lines: list[str]
    faults: int
    made: list[str]


def tried(folder: Folder, programs: list[Programs]) -> Iterator[Outcome]:
    """Try *folder* on each of *programs*, a process each, since Alembic keeps one run a process."""
    fresh = multiprocessing.get_context("spawn")
    workers = min(len(programs), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=fresh) as pool:
        yield from pool.map(_try_on, [folder] * len(programs), programs)


def _try_on(folder: Folder, programs: Programs) -> Outcome:
    """Try *folder* on a server of *programs*, made for it and removed afterwards."""
    logging.getLogger().addHandler(logging.NullHandler())
    lines = [f"PostgreSQL {programs.version}"]
    count = 0
    authority = Authority.create()
    state = State.of_process()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            ca_file = Path(temporary) / "ca.pem"
            ca_file.write_bytes(authority.pem)
            server = Server.create(
                certificate=authority.issue(["localhost"]).write(Path(temporary)),
                master_password="master's p%ss@word:/?#",
                database=DATABASE,
                programs=programs,
            )
            try:
                proofs = Proofs(TrialDatabase(server, ca_file, Revisions(folder=folder)))
                for told in proofs.each():
                    lines.append(f"  {told.revision}  {told.line}")
                    lines += [indented(one, "    ✗ ") for one in told.faults]
                    count += len(told.faults)
            finally:
                server.remove()
    finally:
        state.remove()
    return Outcome(programs.major, lines, count, proofs.made)


def indented(text: str, start: str) -> str:
    """Return *text* behind *start*, its further lines below its first."""
    first, *rest = text.splitlines()
    return "\n".join([f"{start}{first}", *(f"{' ' * len(start)}{line}" for line in rest)])
