"""What plain Alembic makes of a history, our runner and a script on paper make of it, too."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Set as AbstractSet
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config

from core.outcome import Outcome
from core.revisions.runner import Revisions
from infra.local.postgres.server import Server
from tests.equipment import preloaded
from tests.equipment.histories import copy_of_ours
from tests.equipment.site import DATABASE, Site, make_empty
from tests.integration.every_operation import EVERY_OPERATION, HEAD
from tests.integration.test_command_line import alembic, url_of

# What a script on paper cannot know, and says so.
NEED_THE_DATABASE = {
    "Look at the database and add what is missing",
    "Fill a column by what the database says",
    "Fill in batches",
    "Work by the ORM",
}
# It fails on purpose, and goes on.
TRIES = {"Try in a nested transaction"}


def write_history(folder: Path, *, without: AbstractSet[str] = frozenset()) -> Revisions:
    """Write the history of every operation, but for those *without*, to run by our own."""
    folder.mkdir(exist_ok=True)
    ini = copy_of_ours(folder)
    previous = None
    for number, (description, (upgrade, downgrade)) in enumerate(EVERY_OPERATION.items()):
        if description in without:
            continue
        revision = f"{number:03}"
        (folder / "alembic" / "versions" / f"{revision}.py").write_text(
            HEAD.format(
                description=description,
                revision=revision,
                previous=previous,
                upgrade=textwrap.indent(upgrade, "    "),
                downgrade=textwrap.indent(downgrade, "    "),
            )
        )
        previous = revision
    return Revisions(ini)


def stock_alembic(site: Site, folder: Path, *arguments: str) -> None:
    """Run *arguments* on the history in *folder* by an environment as ``alembic init`` makes it."""
    stock = folder / "stock"
    if not stock.exists():
        config = Config(str(folder / "stock.ini"))
        config.set_main_option("script_location", str(stock))
        command.init(config, str(stock))
        text = (folder / "stock.ini").read_text()
        url = url_of(site).replace("postgresql:", "postgresql+psycopg2:").replace("%", "%%")
        text = re.sub(r"(?m)^sqlalchemy.url = .*$", lambda _: f"sqlalchemy.url = {url}", text)
        versions = f"\nversion_locations = {folder / 'alembic' / 'versions'}\n"
        (folder / "stock.ini").write_text(
            text.replace("\n[post_write_hooks]", versions + "\n[post_write_hooks]", 1)
        )
        env = stock / "env.py"
        # One transaction a revision, as autocommit_block asks for.
        env.write_text(
            env.read_text().replace(
                "target_metadata=target_metadata\n",
                "target_metadata=target_metadata, transaction_per_migration=True\n",
            )
        )
    done = preloaded.run(
        *("alembic", "-c", str(folder / "stock.ini"), *arguments),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def client(server: Server, program: str, *arguments: str, text: str = "") -> str:
    """Run one of PostgreSQL's client programs as the superuser, and return what it writes."""
    with closing(server.superuser(DATABASE)) as session:
        given = session.info.dsn_parameters
        address = {f"PG{name.upper()}": given[name] for name in ("host", "port", "user")}
        password = session.info.password
    done = subprocess.run(
        [str(server.programs.client(program)), *arguments],
        env=os.environ | address | {"PGDATABASE": DATABASE, "PGPASSWORD": password},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dumped(server: Server) -> list[str]:
    """Return all that the database holds, but for either tool's own tables."""
    ours = ("--exclude-schema=day2", "--exclude-table=public.alembic_version")
    dump = client(server, "pg_dump", "--inserts", *ours)
    return [line for line in dump.splitlines() if "restrict " not in line]


def test_there_are_many_operations() -> None:
    """Whoever takes one out sees it."""
    assert len(EVERY_OPERATION) >= 60


def test_a_run_makes_what_plain_alembic_makes(site: Site, tmp_path: Path) -> None:
    """Up to the head and back by one half, line by line of a dump."""
    revisions = write_history(tmp_path)
    half = revisions.identifiers[len(revisions.identifiers) // 2]
    stock_alembic(site, tmp_path, "upgrade", "head")
    upgraded = dumped(site.server)
    stock_alembic(site, tmp_path, "downgrade", half)
    downgraded = dumped(site.server)
    make_empty(site.server)

    result = site.run(revisions=revisions)
    upgraded_by_run = dumped(site.server)
    site.downgrade(
        *reversed(revisions.identifiers[revisions.identifiers.index(half) + 1 :]),
        revisions=revisions,
    )

    assert result.outcome is Outcome.APPLIED
    assert result.report.applied == list(revisions.identifiers)
    assert upgraded_by_run == upgraded
    assert len(upgraded) > 400
    assert dumped(site.server) == downgraded


def test_a_script_makes_what_plain_alembic_makes(site: Site, tmp_path: Path) -> None:
    """All but what the database alone can say, which is told of by revision."""
    write_history(tmp_path / "whole")
    needing = alembic("upgrade", "head", "--sql", folder=tmp_path / "whole").stderr
    write_history(tmp_path / "known", without=NEED_THE_DATABASE | TRIES)
    stock_alembic(site, tmp_path / "known", "upgrade", "head")
    by_alembic = dumped(site.server)
    make_empty(site.server)

    script = alembic("upgrade", "head", "--sql", folder=tmp_path / "known")
    as_master = f"SET SESSION AUTHORIZATION {site.master};\n{script.stdout}"
    client(site.server, "psql", "--quiet", "--set=ON_ERROR_STOP=1", text=as_master)

    numbers = {f"{number:03}": said for number, said in enumerate(EVERY_OPERATION)}
    told = re.findall(r"revision (\d{3}) is not whole", needing)
    assert {numbers[one] for one in told} == NEED_THE_DATABASE
    assert "not whole" not in script.stderr
    assert dumped(site.server) == by_alembic
