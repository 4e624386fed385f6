"""pytest-alembic's four standing tests, on our history and on one of every helper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import alembic.config
import pytest
from pytest_alembic.plugin.fixtures import alembic_runner  # noqa: F401 - found by its name here
from pytest_alembic.tests import (  # noqa: F401 - collected from here
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Connection

from core.postgres.lending import lend
from core.revisions import books
from tests.equipment.histories import copy_of_ours, lines_of
from tests.equipment.site import Site

# As alembic/README.md documents them, each used in a revision; upgrade and downgrade.
HELPERS = {
    "a1": ('operations.role("acme_role")', 'operations.drop_role("acme_role")'),
    "a2": (
        'operations.login("acme_user", acts_as="acme_role", member_of=["acme_role"])',
        'operations.drop_login("acme_user")',
    ),
    "a3": ('operations.schema("acme", owner="acme_role")', 'operations.drop_schema("acme")'),
    "a4": (
        'operations.schema("kept"); operations.table("kept.places", "name text NOT NULL")',
        'operations.drop_table_if_empty("kept.places"); operations.drop_schema("kept")',
    ),
    "a5": (
        'operations.index("places_name", on="kept.places", columns="name", unique=True)',
        'op.execute("DROP INDEX kept.places_name")',
    ),
    "a6": ('operations.index("places_again", on="kept.places", columns="name DESC")', "pass"),
    "a7": ('operations.sql_file("more.sql")', 'op.execute("DROP TYPE kept.kind")'),
    "a8": ('operations.read_only("acme_role", schemas=["kept"], tables_of=[])', "pass"),
    "a9": ('operations.close_to_public("kept")', "pass"),
}


@pytest.fixture(params=["ours", "helpers"])
def alembic_config(
    site: Site, tmp_path: Path, request: pytest.FixtureRequest
) -> alembic.config.Config:
    """Return a configuration for a history, with a place to keep passwords."""
    if request.param == "ours":
        ini = copy_of_ours(tmp_path, versions=True)
    else:
        texts, down = {}, None
        for name, (up, back) in HELPERS.items():
            texts[name] = (
                f'"""Revision {name}"""\nfrom alembic import op\nfrom core import operations\n'
                f"revision = {name!r}\ndown_revision = {down!r}\n"
                f"def upgrade():\n    {up}\ndef downgrade():\n    {back}\n"
            )
            down = name
        lines_of(tmp_path, texts)
        ini = tmp_path / "alembic.ini"
        sql = ini.parent / "alembic" / "versions" / "more.sql"
        sql.write_text("CREATE TYPE kept.kind AS ENUM ('new');")
    config = alembic.config.Config(str(ini))
    config.attributes["login_passwords"] = site.login_passwords
    return config


@pytest.fixture
def alembic_engine(site: Site) -> Iterator[Connection]:
    """Return a connection as the runner lends it, to a database that has schema day2."""
    with closing(site.connect_as_runner()) as session:
        books.bring_up(session)
        with lend(session) as connection:
            yield connection
