"""One PostgreSQL for all of these tests: what they are about does not change with its version."""

from __future__ import annotations

import pytest

from infra.local.postgres import Programs, find_programs
from tests.integration.conftest import (  # noqa: F401  fixtures are found by their names here
    at_head,
    authority,
    bench,
    ca_file,
    server,
)


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Find the PostgreSQL that is used where nobody asks for another."""
    return find_programs()
