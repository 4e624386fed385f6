"""
The virtual environments under ``.venvs``, each from the hashed lock of its name.

    python infra/environments.py NAME…

Standard library only, since it runs before anything is installed.  An environment is made again
when its lock or the Python changes, and several are made side by side, by one command at a time.
"""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LOCKS = CHECKOUT / "infra" / "requirements"
# Where `.venvs` and `build` are made: a container keeps its own outside of the checkout, which it
# shares with a host that has another Python and other users.
MADE = Path(os.environ.get("DAY2_MADE") or CHECKOUT)
ENVIRONMENTS = MADE / ".venvs"

OLDEST, NEWEST = (3, 11), (3, 13)

PIP = ["-m", "pip", "--disable-pip-version-check", "--no-input", "-qq"]
# Byte code is made for what gets imported, a small part of the largest environments.
INSTALL = ["install", "--require-hashes", "--no-deps", "--no-compile"]
# What says how pip reaches a registry. Its other variables say what to do with what it finds, such
# as to install it elsewhere, and are for another project.
_REACHING = (
    "CACHE_DIR",
    "CERT",
    "CLIENT_CERT",
    "CONFIG_FILE",
    "DEFAULT_TIMEOUT",
    "EXTRA_INDEX_URL",
    "FIND_LINKS",
    "INDEX_URL",
    "KEYRING_PROVIDER",
    "NO_CACHE_DIR",
    "NO_INDEX",
    "PROXY",
    "RETRIES",
    "TIMEOUT",
    "TRUSTED_HOST",
)


def for_pip() -> dict[str, str]:
    """Return the variables that pip is run with: of its own those that say how it gets there."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PIP_") or name.removeprefix("PIP_") in _REACHING
    }
    # A file of settings may have it, and a virtual environment refuses it.
    return kept | {"PIP_USER": "0"}


def key(name: str) -> str:
    """Return what an environment is made from, as a digest: its lock and the Python."""
    lock = (LOCKS / f"{name}.txt").read_bytes()
    return hashlib.sha256(lock + f"{sys.version}{sys.executable}".encode()).hexdigest()


def is_current(name: str) -> bool:
    """Tell whether the environment is there and made from the lock as it is now."""
    stamp = ENVIRONMENTS / name / "made-from"
    return stamp.exists() and stamp.read_text() == key(name)


def make(name: str) -> None:
    """Make one environment anew."""
    begin = time.monotonic()
    folder = ENVIRONMENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", folder])
    lock = LOCKS / f"{name}.txt"
    _run([folder / "bin" / "python", *PIP, *INSTALL, "-r", lock], env=for_pip())
    (folder / "made-from").write_text(key(name))
    print(f"  .venvs/{name} ({time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)


# What runs, and whether nothing more is to.
_running: set[subprocess.Popen[bytes]] = set()
_interrupted = threading.Event()


def _run(command: list[str | Path], env: dict[str, str] | None = None) -> None:
    """Run *command*, unless all was interrupted, and see that it succeeds."""
    if _interrupted.is_set():
        raise OSError("interrupted")
    with subprocess.Popen(command, env=env) as process:
        _running.add(process)
        try:
            status = process.wait()
        finally:
            _running.discard(process)
    if status:
        raise subprocess.CalledProcessError(status, command)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other command makes environments here: it would remove what we make."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(names: list[str]) -> int:
    """Make those of *names* that are missing or stale; return the exit status."""
    unknown = [name for name in names if not (LOCKS / f"{name}.txt").is_file()]
    if unknown or not names:
        known = ", ".join(sorted(one.stem for one in LOCKS.glob("*.txt")))
        print(f"python infra/environments.py NAME…, of {known}", file=sys.stderr)
        return 2
    release = sys.version_info[:2]
    if not OLDEST <= release <= NEWEST:
        print(
            f"python {'.'.join(map(str, release))} is not supported: give one from 3.11 to 3.13, "
            "such as make PYTHON=python3.13",
            file=sys.stderr,
        )
        return 1
    if all(is_current(name) for name in names):
        return 0
    try:
        with alone():
            # Another command may have made them meanwhile.
            return make_all([name for name in names if not is_current(name)])
    except OSError as error:
        print(f"{error}: set DAY2_MADE to a folder that you can write to", file=sys.stderr)
        return 1


def make_all(stale: list[str]) -> int:
    """Make each of *stale* anew, several at once; return the exit status."""
    if not stale:
        return 0
    print(f"installing {', '.join(stale)} …", file=sys.stderr, flush=True)
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as workers:
        made = {workers.submit(make, name): name for name in stale}
        try:
            for future in concurrent.futures.as_completed(made):
                if error := future.exception():
                    print(
                        f"  .venvs/{made[future]} was not made: {_reason(error)}", file=sys.stderr
                    )
                    return 1
        except KeyboardInterrupt:
            # The threads are waited for: what they began ends, and they begin nothing more.
            _interrupted.set()
            for process in [*_running]:
                process.terminate()
            print("interrupted: what was not made is made by the next command", file=sys.stderr)
            return 130
    return 0


def _reason(error: BaseException) -> str:
    """Say in one line why an environment was not made."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"python {error.cmd[1]} {error.cmd[2]} ended with {error.returncode}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
