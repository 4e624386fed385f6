"""pytest-alembic's four standing tests, on our history, on every PostgreSQL found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import alembic.config
import pytest
from pytest_alembic.tests import (  # noqa: F401 - collected from here
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Connection

from core.postgres.lending import lend
from core.revisions import books
from tests.equipment.histories import copy_of_ours
from tests.equipment.site import Site


@pytest.fixture
def alembic_config(site: Site, tmp_path: Path) -> alembic.config.Config:
    """Return a configuration for our history, with a place to keep passwords."""
    config = alembic.config.Config(str(copy_of_ours(tmp_path, versions=True)))
    config.attributes["login_passwords"] = site.login_passwords
    return config


@pytest.fixture
def alembic_engine(site: Site) -> Iterator[Connection]:
    """Return a connection as the runner lends it, to a database that has schema day2."""
    with closing(site.connect_as_runner()) as session:
        books.bring_up(session)
        with lend(session) as connection:
            yield connection
