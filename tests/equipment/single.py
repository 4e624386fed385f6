"""
One PostgreSQL for tests of what does not change with its version: who imports ``programs`` has it.

``make test-postgres`` runs them on each.
"""

from __future__ import annotations

import pytest

from infra.local.postgres.programs import Programs, find_programs


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Find the PostgreSQL that is used where nobody asks for another."""
    return find_programs()
