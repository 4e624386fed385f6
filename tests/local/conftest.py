"""The tests of the local AWS itself have one to themselves: they look at all that is in it."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark it: ``python -m tests`` gives this folder a local AWS of its own."""
    item.add_marker("alone")
