"""
Where the local AWS keeps everything it makes: one short folder that ``make clean`` removes.

Short, since the path of a unix socket ends at 107 bytes (103 on macOS), and outside the home
folder, since PostgreSQL refuses root and then runs as ``nobody``, who cannot enter a private home.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from infra.local.processes import command_line

CHECKOUT = Path(__file__).resolve().parents[2]

# Below the ports that the kernel hands to outgoing connections (32768 on Linux, 49152 on macOS):
# a stopped instance finds its port free when it is started again.
PORTS = range(15_000, 32_000)


# Linux keeps it in memory; a server of the tests takes up to 0.2 GB of it.
_MEMORY = Path("/dev/shm")  # noqa: S108 - checked as the one in /tmp is
_PLENTY_BYTES = 3 * 2**30

# Those that this process was given.
_given: set[int] = set()


def free_port() -> int:
    """
    Return a loopback port that nothing listens on, and that we alone are given while we run.

    Between the look and the server's own start pass seconds, in which others look, too.
    """
    while True:
        port = secrets.choice(PORTS)
        if port not in _given and _lock_port(port) and port_is_free(port):
            _given.add(port)
            return port


def _lock_port(port: int) -> bool:
    """Lock *port*, a byte of a file, until this process ends; False where another one has it."""
    try:
        fcntl.lockf(_port_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _port_locks() -> IO[bytes]:
    """Open the file of the locks, once: to close it would give all of them back."""
    return (shared_folder() / "ports").open("ab")


def port_is_free(port: int) -> bool:
    """Tell whether *port* of 127.0.0.1 can be listened on."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def shared_folder() -> Path:
    """
    Return the state folder of this checkout, made when missing: ``DAY2_STATE``, else one in /tmp.

    Raises:
        PermissionError: Somebody else made a folder of that name first.
    """
    usual = Path("/tmp") / _name()  # noqa: S108 - it is checked below
    return _made(Path(os.environ.get("DAY2_STATE") or usual).absolute())


def _made(folder: Path) -> Path:
    """Return *folder*, ours alone, made when missing."""
    try:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"{folder} cannot be made ({error.strerror}): set DAY2_STATE to another folder"
        ) from error
    # Names in /tmp can be guessed: never write into a folder or through a link of another user.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} is not a folder of yours: remove it or set DAY2_STATE")
    folder.chmod(0o711)
    return folder


def _name() -> str:
    """Return what the folders of this checkout and user are called."""
    return f"day2-{os.getuid()}-{hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]}"


def fleeting_folder() -> Path:
    """
    Return where the states of single processes are: in memory, where there is plenty.

    They end with their process. A database is 300 files, which memory makes in a fifth of the time
    that a busy disk takes.
    """
    if os.environ.get("DAY2_STATE") or not _is_plenty(_MEMORY):
        return shared_folder()
    return _made(_MEMORY / _name())


def _is_plenty(folder: Path) -> bool:
    """Tell whether *folder* has room for servers, and programs' libraries may be loaded from it."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    # The room that there is in all: another answer tomorrow would be another folder.
    is_large = found.f_blocks * found.f_frsize >= _PLENTY_BYTES
    # As Docker mounts it; macOS has neither the flag nor the folder.
    is_for_programs = not found.f_flag & getattr(os, "ST_NOEXEC", 0)
    return is_large and is_for_programs and os.access(folder, os.W_OK)


@dataclass(frozen=True)
class Keys:
    """An access key of the local AWS."""

    access_key_id: str
    secret_access_key: str

    @classmethod
    def new(cls) -> "Keys":
        """
        Return one made at random, of account 000000000000.

        As on AWS, the account is in the identifier, 5 bits a letter; ``L`` is LocalStack's prefix.
        """
        letters = "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(7))
        return cls(f"LKIAQAAAAAAAA{letters}", secrets.token_urlsafe(30))


@dataclass(frozen=True)
class State:
    """The folder of one local AWS.  Several may run side by side, each in a folder of its own."""

    folder: Path

    @classmethod
    def of_checkout(cls) -> "State":
        """Return the state that ``make up`` uses."""
        return cls(shared_folder())

    @classmethod
    def of_process(cls, name: str = "", pid: int | None = None) -> "State":
        """Return a state of this process alone, or of *pid*; *name* tells several apart."""
        return cls(fleeting_folder() / f"t{pid or os.getpid()}{name and '-'}{name}")

    @classmethod
    def abandoned(cls) -> "list[State]":
        """Return the states of processes that are gone."""
        found = [
            (cls(folder), re.match(r"t(\d+)", folder.name))
            for parent in {shared_folder(), fleeting_folder()}
            for folder in parent.iterdir()
        ]
        return [state for state, pid in found if pid and not command_line(int(pid[1]))]

    @property
    def pids(self) -> Path:
        """Folder of pid files: ``localstack`` and one for each function process."""
        return self.folder / "pids"

    @property
    def servers(self) -> Path:
        """Folder of the PostgreSQL servers, one a database instance."""
        return self.folder / "pg"

    @property
    def tls(self) -> Path:
        """Folder of the CA's certificate and the one that every instance shows."""
        return self.folder / "tls"

    @property
    def ca_file(self) -> Path:
        """Certificate of the local CA, PEM: what clients verify the endpoints against."""
        return self.tls / "ca.pem"

    @property
    def calls(self) -> Path:
        """Folder with the whole log of each call of a function, named by request id."""
        return self.folder / "calls"

    @property
    def log(self) -> Path:
        """LocalStack's log."""
        return self.folder / "localstack.log"

    @property
    def port_file(self) -> Path:
        """Holds the port that LocalStack listens on."""
        return self.folder / "port"

    @property
    def code_file(self) -> Path:
        """Holds what LocalStack was started from."""
        return self.folder / "code"

    def keys(self) -> Keys:
        """Return the keys to it, which only this user can read; made when missing."""
        file = self.folder / "keys"
        if not file.exists():
            made = file.with_suffix(f".{os.getpid()}")
            made.touch(mode=0o600)
            made.write_text(json.dumps(asdict(Keys.new())))
            # Whoever makes them at the same time uses those that came first.
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(made)
            made.unlink()
        return Keys(**json.loads(file.read_text()))

    def make(self) -> None:
        """Make the folder and those in it."""
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.servers.mkdir(mode=0o711, exist_ok=True)
        # What functions printed is for nobody else.
        for folder in (self.pids, self.calls):
            folder.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands on this state waiting: two ``up`` at once start one LocalStack."""
        self.make()
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
