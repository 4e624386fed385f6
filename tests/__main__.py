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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    # Whoever ends us ends them in order, also where a shell that put us into the background
    # has told us to ignore interrupts.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        running(ALL_OTHERS, output) as others,
    ):
        failed = []
        # All of them, whatever becomes of the first.
        for session in ON_LOCAL_AWS:
            with running(session) as one:
                if one.wait():
                    failed.append(" ".join(session))
        is_good = others.wait() == 0
        output.seek(0)
        sys.stdout.write(output.read())
        sys.stdout.flush()
    if failed:
        sys.stderr.write(f"failed before: {', '.join(failed)}\n")
    return 0 if is_good and not failed else 1


@contextmanager
def running(
    arguments: Sequence[str], output: IO[str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run pytest with *arguments*; it prints to *output*, or where we do.

    An interrupt reaches it once, through us: a second one would end its cleaning up.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
