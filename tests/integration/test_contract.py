"""Revisions that were written years ago run as they did, on every PostgreSQL."""

from __future__ import annotations

import pytest

from core.model import Action
from core.revisions.folder import Folder
from core.revisions.runner import Revisions
from tests.conftest import ROOT
from tests.equipment.site import Site


@pytest.fixture
def years_ago() -> Revisions:
    """Return them, as their team keeps them."""
    return Revisions(folder=Folder(ROOT / "tests" / "contract" / "years_ago"))


def drift(site: Site, revisions: Revisions) -> object:
    """Return what differs from their promises, which are written as years ago, too."""
    return site.run(Action.CHECK, revisions=revisions).report.details["drift"]


def test_they_go_up_down_and_up_again(site: Site, years_ago: Revisions) -> None:
    """Each is listed, loaded and run; what they promised is there, and goes."""
    up = site.run(revisions=years_ago)
    after = drift(site, years_ago)
    site.downgrade(*reversed(years_ago.identifiers), revisions=years_ago)
    left = site.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'years_ago%'")
    again = site.run(revisions=years_ago)

    assert up.report.applied == again.report.applied == list(years_ago.identifiers)
    assert (after, left) == ([], [])
    assert drift(site, years_ago) == []


def test_a_plan_shows_them(site: Site, years_ago: Revisions) -> None:
    """On paper, too, each is what it was."""
    shown = site.run(Action.PLAN, revisions=years_ago).report.details["plan"]

    assert [one["revision"] for one in shown] == list(years_ago.identifiers)  # type: ignore[attr-defined]
    assert all("cannot be shown" not in one["sql"] for one in shown)  # type: ignore[attr-defined]
