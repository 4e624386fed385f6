"""
Processes that outlive the one that started them: started, found again and stopped by pid files.

A pid alone proves nothing, since pids are used again.  Each of our processes has its state folder
in its command line, and only a process with that *marker* is ever signalled.
"""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Popen warns about a process that still runs when its object goes.  Ours are meant to.
_started: "list[subprocess.Popen[bytes]]" = []


def start(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    user: Mapping[str, Any] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start *command*, which outlives us and writes to the end of *log*."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            # Not in our terminal's group: Ctrl-C is for us alone.
            start_new_session=True,
            **(user or {}),
        )
    _started.append(process)
    return process


def unprivileged() -> dict[str, Any]:
    """Return ``Popen`` arguments that make root ``nobody``; none for other users."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give(path: Path) -> None:
    """Make the unprivileged user the owner of *path*."""
    if user := unprivileged():
        os.chown(path, user["user"], user["group"])


def user_of_port(port: int) -> int | None:
    """Return whose the local end at *port* of 127.0.0.1 is; None where nothing tells (macOS)."""
    table = Path("/proc/net/tcp")
    if not table.exists():
        return None
    number = int.from_bytes(bytes([127, 0, 0, 1]), sys.byteorder)
    local = f"{number:08X}:{port:04X}"
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == local:
            return int(fields[7])
    return -1


def command_line(pid: int) -> str:
    """Return the command line of process *pid*; empty when it is gone or a zombie."""
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        if Path("/proc/self").exists():
            return ""
    # macOS has no /proc.
    shown = subprocess.run(
        ["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    status, _, command = shown.stdout.strip().partition(" ")
    return "" if status.startswith("Z") else command


def is_running(pid: int, marker: str | Path) -> bool:
    """Tell whether *pid* is alive and has *marker* in its command line."""
    return str(marker) in command_line(pid)


def read_pid(pid_file: Path) -> int | None:
    """Return the pid on the first line of *pid_file*, or None when there is none."""
    try:
        return int(pid_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def wait_gone(pid: int, marker: str | Path, timeout_seconds: float) -> bool:
    """Wait until *pid* has ended, reaping it when it is our child; False when it has not."""
    deadline = time.monotonic() + timeout_seconds
    while is_running(pid, marker) or not _is_reaped(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_reaped(pid: int) -> bool:
    """
    Reap *pid* if it is a child of ours that has ended; False while that is still to come.

    An ending process loses its command line first.  Left a zombie, its pid counts as alive, and
    PostgreSQL refuses to start over the lock file that names it.
    """
    try:
        reaped, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return reaped == pid or bool(command_line(pid))


def stop(
    pid: int,
    marker: str | Path,
    *,
    first: signal.Signals = signal.SIGTERM,
    timeout_seconds: float = 30,
) -> None:
    """Ask *pid* to end, and kill it when it has not within *timeout_seconds*."""
    for number in (first, signal.SIGKILL):
        if not is_running(pid, marker):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if wait_gone(pid, marker, timeout_seconds):
            return


def stop_recorded(
    pid_file: Path, marker: str | Path, *, first: signal.Signals = signal.SIGTERM
) -> None:
    """Stop the process that *pid_file* names, if it is still ours, and remove the file."""
    pid = read_pid(pid_file)
    if pid is not None:
        stop(pid, marker, first=first)
    pid_file.unlink(missing_ok=True)
