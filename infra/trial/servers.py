"""The servers that a folder is tried on, each in a process of its own, and what came of them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from core.errors import RunFailed
from core.revisions.folder import Folder
from core.revisions.runner import Revisions
from infra.local.postgres.certificates import Authority
from infra.local.postgres.programs import Programs
from infra.local.postgres.server import Server, remove_servers
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
    """
    Try *folder* on each of *programs*, a process each, since Alembic keeps one run a process.

    Whatever ends it early, such as Ctrl-C, ends the servers, too.

    Raises:
        RunFailed: A revision ended the process that carried it out.
    """
    fresh = multiprocessing.get_context("spawn")
    count = min(len(programs), os.cpu_count() or 1)
    ignored = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(
        count, mp_context=fresh, initializer=signal.signal, initargs=ignored
    ) as pool:
        outcomes = pool.map(_try_on, [folder] * len(programs), programs)
        workers = multiprocessing.active_children()
        try:
            yield from outcomes
        except BrokenProcessPool as error:
            _end(workers)
            raise RunFailed(
                "a revision ended the process that carried it out, which would end the function, "
                "too: look for os._exit, a signal, or a library that crashes"
            ) from error
        except BaseException:
            _end(workers)
            raise


def _end(workers: Sequence[BaseProcess]) -> None:
    """End *workers* at once, and the servers that they have started: those outlive them."""
    for one in workers:
        one.kill()
        one.join()
        state = State.of_process(pid=one.pid)
        remove_servers(state.servers)
        state.remove()


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
