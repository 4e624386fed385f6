"""
Every test, in two halves side by side: those that look at a local AWS, and all others.

    python -m tests

The first half prints as it goes, the second when both have ended. They share nothing: each
pytest has servers of its own. ``pytest tests/…`` runs any part of them alone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

# In a local AWS of its own each, where the tests look at all that happens in it. The role is
# held to the calls that those before it have made, so it comes last, and with them.
ON_LOCAL_AWS = (
    ("tests/local",),
    ("tests/operations",),
    (
        "tests/deployment",
        "tests/e2e",
        "tests/runner/test_on_local_aws.py",
        "tests/security/test_least_privilege_in_aws.py",
    ),
)
ALL_OTHERS = ("tests", *(f"--ignore={path}" for session in ON_LOCAL_AWS for path in session))


def main() -> int:
    """Run both halves; return 0 if every test passed."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        others = begin(ALL_OTHERS, output)
        try:
            # All sessions, whatever becomes of the first.
            failed = [session for session in ON_LOCAL_AWS if begin(session).wait()]
            is_good = others.wait() == 0
        finally:
            # Of an interrupt the child hears itself, and it cleans up behind it.
            if others.poll() is None:
                others.send_signal(signal.SIGINT)
                others.wait()
        output.seek(0)
        sys.stdout.write(output.read())
        sys.stdout.flush()
    if failed:
        sys.stderr.write(f"failed before: {', '.join(' '.join(session) for session in failed)}\n")
    return 0 if is_good and not failed else 1


def begin(arguments: Sequence[str], output: IO[str] | None = None) -> subprocess.Popen[bytes]:
    """Start pytest with *arguments*; it prints to *output*, or where we do."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
    )


if __name__ == "__main__":
    sys.exit(main())
