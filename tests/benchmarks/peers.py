"""The other tools: installed by their own registries' clients, pinned, and their commands."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import histories
from tests.benchmarks.databases import Databases

HERE = Path(__file__).parent
PYTHON_PINS, NODE_PINS = HERE / "peers.txt", HERE / "package.json"


@dataclass(frozen=True)
class Peer:
    """
    One tool.

    Attributes:
        prepare: Writes a number of revisions into a folder.
        command: Returns what applies them to the database of a URL.
        is_slow: It would take minutes for a thousand.
    """

    name: str
    version: str
    prepare: Callable[[Path, int, str], None]
    command: Callable[[Path, str], list[str | Path]]
    is_slow: bool = False


@dataclass(frozen=True)
class Peers:
    """The peers that could be had here, and which could not, with the reason."""

    found: list[Peer]
    missing: dict[str, str]


def install(folder: Path, databases: Databases) -> Peers:
    """Install what can be installed under *folder*."""
    missing: dict[str, str] = {}
    python = folder / "python" / "bin"
    node = folder / "node" / "node_modules" / ".bin"
    try:
        _once(folder / "python", PYTHON_PINS, _install_python)
    except (OSError, subprocess.CalledProcessError) as error:
        missing |= dict.fromkeys(("alembic", "yoyo", "pyway"), _why(error))
    try:
        _once(folder / "node", NODE_PINS, _install_node)
    except (OSError, subprocess.CalledProcessError) as error:
        missing |= dict.fromkeys(("dbmate", "node-pg-migrate"), _why(error))
    all_peers = [*_python_peers(python, databases), *_node_peers(node)]
    for name, path, of in (
        ("psql", _psql(databases), _psql_peer),
        ("sqitch", shutil.which("sqitch"), _sqitch_peer),
    ):
        if path is None:
            missing[name] = "not on this machine, and neither on PyPI nor npm"
        else:
            all_peers.append(of(Path(path), databases))
    return Peers([peer for peer in all_peers if peer.name not in missing], missing)


def _once(folder: Path, pins: Path, make: Callable[[Path], None]) -> None:
    """Make *folder* from *pins* unless it is made from them already."""
    stamp, key = folder / "made-from", hashlib.sha256(pins.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder)
    stamp.write_text(key)


def _install_python(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", PYTHON_PINS], check=True, capture_output=True, text=True)


def _install_node(folder: Path) -> None:
    shutil.copyfile(NODE_PINS, folder / "package.json")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


def _why(error: OSError | subprocess.CalledProcessError) -> str:
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _python_peers(bin_folder: Path, databases: Databases) -> Iterator[Peer]:
    pins = dict(line.split("==") for line in PYTHON_PINS.read_text().split() if "==" in line)

    def alembic(folder: Path, count: int, name: str) -> None:
        url = databases.url(name, "postgresql+psycopg2")
        histories.write_usual_alembic(folder, count, url)

    yield Peer(
        "alembic",
        pins["alembic"],
        alembic,
        lambda folder, _: [bin_folder / "alembic", "-c", folder / "alembic.ini", "upgrade", "head"],
    )
    yield Peer(
        "yoyo",
        pins["yoyo-migrations"],
        lambda folder, count, _: histories.write_sql(folder, count, "{number:05d}.sql", "{up};\n"),
        lambda folder, name: [
            *(bin_folder / "yoyo", "apply", "--batch", "--no-config-file"),
            *("--database", databases.url(name, "postgresql"), folder),
        ],
    )
    yield Peer(
        "pyway",
        pins["pyway"],
        lambda folder, count, _: histories.write_sql(
            folder, count, "V01_{number:05d}__schema.sql", "{up};\n"
        ),
        lambda folder, name: [
            *(bin_folder / "pyway", "migrate", "--database-type", "postgres"),
            *("--database-host", "localhost", "--database-port", str(databases.server.port)),
            *("--database-name", name, "--database-username", "postgres"),
            *("--database-password", "benchmark", "--database-table", "public.pyway"),
            *("--database-migration-dir", str(folder)),
        ],
    )


def _node_peers(bin_folder: Path) -> Iterator[Peer]:
    pins = json.loads(NODE_PINS.read_text())["dependencies"]
    yield Peer(
        "dbmate",
        pins["dbmate"],
        lambda folder, count, _: histories.write_sql(
            folder, count, "{number:05d}_schema.sql", "-- migrate:up\n{up};\n-- migrate:down\n"
        ),
        lambda folder, _: [
            *(bin_folder / "dbmate", "--no-dump-schema", "--migrations-dir", folder, "migrate"),
        ],
    )
    yield Peer(
        "node-pg-migrate",
        pins["node-pg-migrate"],
        lambda folder, count, _: histories.write_sql(
            folder, count, "{number:013d}_schema.sql", "-- Up Migration\n{up};\n-- Down Migration\n"
        ),
        lambda folder, _: [
            *(bin_folder / "node-pg-migrate", "up", "--migrations-dir", folder),
            "--no-single-transaction",
        ],
    )


def _psql_peer(psql: Path, _: Databases) -> Peer:
    def script(folder: Path, count: int, _name: str) -> None:
        folder.mkdir(parents=True)
        histories.write_psql(folder / "all.sql", count)

    return Peer(
        "psql",
        _version(psql),
        script,
        lambda folder, _: [
            *(psql, "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1"),
            *("--file", folder / "all.sql"),
        ],
    )


def _sqitch_peer(sqitch: Path, databases: Databases) -> Peer:
    return Peer(
        "sqitch",
        _version(sqitch),
        lambda folder, count, _: histories.write_sqitch(folder, count),
        lambda _, name: [sqitch, "deploy", "--quiet", databases.url(name, "db:pg")],
        is_slow=True,
    )


def _version(program: Path) -> str:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return next(word for word in shown.stdout.split() if word.lstrip("v")[0].isdigit()).lstrip("v")


def _psql(databases: Databases) -> Path | None:
    beside = databases.server.programs.folder / "psql"
    found = str(beside) if beside.exists() else shutil.which("psql")
    return Path(found) if found else None
