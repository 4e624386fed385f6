"""
The catalogue at head, word for word, and that each revision can be taken back.

``make golden`` writes the golden files anew, of each version that day2 supports; review them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.local.postgres.programs import OLDEST_MAJOR
from infra.trial.catalogue import catalogue
from tests.equipment.site import DATABASE, REVISIONS, Site, after_going_back

GOLDEN = Path(__file__).parent.parent / "golden"


def golden_file(major: int) -> Path:
    """Return the file for *major*: that of the newest version that is not newer."""
    files = {int(path.stem.removeprefix("catalog_")): path for path in GOLDEN.glob("catalog_*.txt")}
    return files[max(found for found in files if found <= major)]


def write_golden(major: int, found: str) -> None:
    """Write the file for *major*, unless it would say what an older version's says."""
    own = GOLDEN / f"catalog_{major}.txt"
    own.unlink(missing_ok=True)
    if major == OLDEST_MAJOR or golden_file(major).read_text() != found:
        own.write_text(found)


def test_catalogue_at_head_is_the_golden_one(site: Site) -> None:
    """Roles, memberships, objects and privileges at head are exactly those on file."""
    site.run()

    found = catalogue(site.server, DATABASE)
    major = site.server.programs.major
    if os.environ.get("DAY2_WRITE_GOLDEN") == "1":
        write_golden(major, found)
    assert found == golden_file(major).read_text()


@pytest.mark.parametrize("revision", REVISIONS.identifiers)
def test_revision_can_be_taken_back_and_applied_again(site: Site, revision: str) -> None:
    """A downgrade leaves what was there before the upgrade, and a second upgrade the same."""
    earlier = REVISIONS.identifiers[: REVISIONS.identifiers.index(revision)]
    if earlier:
        site.run(target=earlier[-1])
    before = catalogue(site.server, DATABASE, without=("day2",))

    site.run(target=revision)
    after = catalogue(site.server, DATABASE)
    site.downgrade(revision)
    back = catalogue(site.server, DATABASE, without=("day2",))
    result = site.run(target=revision)
    again = catalogue(site.server, DATABASE)

    assert back == after_going_back(before)
    assert again == after
    assert result.report.applied == [revision]


def test_whole_history_can_be_taken_back_and_applied_again(site: Site) -> None:
    """From head all the way back to base, the catalogue is the one of an empty database."""
    before = catalogue(site.server, DATABASE, without=("day2",))
    site.run()
    at_head = catalogue(site.server, DATABASE)

    site.downgrade(*reversed(REVISIONS.identifiers))
    back = catalogue(site.server, DATABASE, without=("day2",))
    result = site.run()

    assert back == after_going_back(before)
    assert result.report.applied == ["001", "002", "003", "004"]
    assert catalogue(site.server, DATABASE) == at_head
