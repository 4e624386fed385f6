"""The product's tests pass whatever is deployed; ``.ci/run`` runs more of them so."""

from __future__ import annotations

from core.revisions.folder import EXAMPLES
from tests.equipment import strangers
from tests.equipment.histories import OURS


def test_what_is_deployed_fails_no_test_of_ours() -> None:
    """Three revisions of a team's, in place of the examples."""
    done = strangers.run("strange", ["tests/unit", "tests/house"])

    assert done.returncode == 0, done.stdout[-4000:]


def test_an_example_is_what_the_tests_hold_of_it() -> None:
    """Each of the examples that is there says what the history of the tests says."""
    ours = {path.name: path.read_text() for path in OURS.versions.glob("*.py")}
    there = {path.name: path.read_text() for path in EXAMPLES.versions.glob("*.py")}
    other = [name for name, text in ours.items() if there.get(name, text) != text]

    assert other == [], "change tests/history as well, or keep yours in a folder of your own"
