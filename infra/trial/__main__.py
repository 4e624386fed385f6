"""
Try a folder of migrations on every PostgreSQL that is chosen, as a team's CI does.

    make test-migrations [MIGRATIONS=../acme-migrations] [POSTGRES="15 17"] [GOLDEN=write]
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import time

from core.errors import RunFailed
from infra import migrations
from infra.commands import WrongUseError, parser
from infra.local import shell
from infra.local.postgres.engine_versions import programs_of
from infra.local.postgres.programs import Programs, ServerError, available_programs
from infra.trial import files, golden
from infra.trial.servers import indented, tried

# As a shell says it: 128, and the number of SIGINT.
_INTERRUPTED = 130


def main() -> int:
    """Try all, print what came of it, and return 0 if all holds."""
    # What a run logs, its failure says as well.
    logging.getLogger().addHandler(logging.NullHandler())
    shell.forget()
    # A CI that gives up is a Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begin = time.monotonic()
    try:
        folder = migrations.chosen()
        programs = chosen(os.environ.get("POSTGRES", ""))
        writes = is_writing(os.environ.get("GOLDEN", ""))
        revisions = files.loaded(folder)
        faults = files.faults(revisions)
        count = len(faults)
        first, last = revisions.identifiers[0], revisions.identifiers[-1]
        print(f"{len(revisions.identifiers)} revision(s), {first} to {last}, in one line")
        _print_faults("The files", faults)
        outcomes = []
        for outcome in tried(folder, programs):
            print("\n".join(outcome.lines), flush=True)
            outcomes.append(outcome)
    except (RunFailed, ServerError, WrongUseError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the servers are stopped, and removed", file=sys.stderr)
        return _INTERRUPTED
    count += sum(one.faults for one in outcomes)
    whole = {one.major: one.made for one in outcomes if one.made}
    if writes and whole and not count:
        try:
            written = golden.write(folder, whole)
        except OSError as error:
            print(f"{error.filename} cannot be written: {error.strerror}", file=sys.stderr)
            return 2
        print(f"written: {', '.join(written)}: review them as a diff")
    elif not writes:
        for major, made in whole.items():
            faults = golden.compared(folder, major, made)
            count += len(faults)
            _print_faults(f"PostgreSQL {major}", faults)
    return _end(count, begin)


def chosen(given: str) -> list[Programs]:
    """
    Return the programs of the versions in *given*, such as ``15 17``; without it, what is here.

    Raises:
        WrongUseError: One of them is not a version.
        ServerError: This machine cannot have one of them.
    """
    wanted = given.replace(",", " ").split()
    if not wanted:
        return sorted(available_programs(), key=lambda one: one.major)
    for one in wanted:
        if not re.fullmatch(r"\d+(\.\d+)?", one):
            raise WrongUseError(f'POSTGRES={given}: {one} is not a version: give POSTGRES="15 17"')
    found = {programs.major: programs for programs in map(programs_of, wanted)}
    return [found[major] for major in sorted(found)]


def is_writing(given: str) -> bool:
    """
    Say whether the golden files are to be written.

    Raises:
        WrongUseError: *given* is neither empty nor ``write``.
    """
    if given not in ("", "write"):
        raise WrongUseError(f"GOLDEN={given}: give {golden.WRITE}, or leave it out to compare")
    return given == "write"


def _print_faults(where: str, faults: list[str]) -> None:
    if faults:
        print(where)
    for one in faults:
        print(indented(one, "  ✗ "))


def _end(count: int, begin: float) -> int:
    seconds = time.monotonic() - begin
    said = "all holds" if not count else f"{count} thing(s) do not hold"
    print(f"{said}, in {seconds:.0f} s", file=sys.stderr if count else sys.stdout)
    return 1 if count else 0


if __name__ == "__main__":
    parser("infra.trial", __doc__).parse_args()
    sys.exit(main())
