"""A build as the function and the command take it: what is in it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import DatabaseAhead, MigrationError
from core.model import Action
from core.revisions.runner import Revisions
from tests.equipment.histories import history_of
from tests.equipment.single import programs  # noqa: F401
from tests.equipment.site import Site, make_empty
from tests.integration.test_command_line import alembic, url_of

BROKEN = {
    "two files of one revision": ("a3", "a2", "revision a2 is in several files (a2.py, a3.py)"),
    "a long identifier": ("a3", "a" * 33, "(a3.py) is 33 characters long"),
    "a hyphen": ("a3", "a-3", "(a3.py) has -, which Alembic refuses"),
}


@pytest.mark.parametrize(("file", "identifier", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_build_is_refused_by_function_and_command(
    site: Site, tmp_path: Path, file: str, identifier: str, problem: str
) -> None:
    """Before anything is touched, in one line, naming the files."""
    revisions = history_of(tmp_path, {"a1": "pass", "a2": "pass", "a3": "pass"})
    script = tmp_path / "alembic" / "versions" / f"{file}.py"
    text = script.read_text().replace(f'revision = "{file}"', f'revision = "{identifier}"', 1)
    script.write_text(text.replace(f"revision = '{file}'", f"revision = {identifier!r}", 1))

    with pytest.raises(MigrationError) as run:
        site.run(revisions=revisions)
    command = alembic("-x", f"url={url_of(site)}", "upgrade", "head", folder=tmp_path)
    on_paper = alembic("upgrade", "head", "--sql", folder=tmp_path)

    assert problem in str(run.value)
    assert problem in command.stderr.splitlines()[-1]
    assert problem in on_paper.stderr.splitlines()[-1]
    assert command.returncode != 0
    assert on_paper.returncode != 0
    assert site.query("SELECT to_regnamespace('day2')::text") == [(None,)]


def test_a_module_that_looks_at_the_database_is_run_by_function_and_command(
    site: Site, tmp_path: Path
) -> None:
    """What stands at a script's top level runs when the script does, connected."""
    revisions = history_of(tmp_path, {"a1": "pass", "a2": "op.execute(f'CREATE TABLE {X} ()')"})
    script = tmp_path / "alembic" / "versions" / "a2.py"
    looking = "\nX = op.get_bind().exec_driver_sql('SELECT current_database()').scalar()\n"
    script.write_text(script.read_text() + looking)

    by_command = alembic("-x", f"url={url_of(site)}", "upgrade", "head", folder=tmp_path)
    by_the_command = site.query("SELECT to_regclass('shop')::text")
    make_empty(site.server)
    site.run(revisions=revisions)

    assert (by_command.returncode, by_the_command) == (0, [("shop",)])
    assert site.query("SELECT to_regclass('shop')::text") == [("shop",)]


def test_a_release_number_is_a_revision(site: Site, tmp_path: Path) -> None:
    """Dots are as good as digits: as a target, in the history, and for the command."""
    revisions = history_of(tmp_path, {"2025.11.1": "pass", "2025.12.0": "pass"})

    first = site.run(target="2025.11.1", revisions=revisions)
    command = alembic("-x", f"url={url_of(site)}", "upgrade", "2025.12.0", folder=tmp_path)

    assert first.report.applied == ["2025.11.1"]
    assert command.returncode == 0
    assert site.query("SELECT revision FROM day2.history ORDER BY id") == [
        ("2025.11.1",),
        ("2025.12.0",),
    ]


def test_a_script_that_is_not_run_is_not_loaded(site: Site, tmp_path: Path) -> None:
    """What was applied long ago may need what is no longer there: function and command go on."""
    revisions = history_of(tmp_path, {"a1": "pass", "a2": "pass", "a3": "pass"})
    site.run(target="a1", revisions=revisions)
    script = tmp_path / "alembic" / "versions" / "a1.py"
    script.write_text(script.read_text() + "\nimport what_is_no_longer_there\n")

    result = site.run(target="a2", revisions=Revisions(tmp_path / "alembic.ini"))
    command = alembic("-x", f"url={url_of(site)}", "upgrade", "a3", folder=tmp_path)
    on_paper = alembic("upgrade", "a2:a3", "--sql", folder=tmp_path)

    assert result.report.applied == ["a2"]
    assert (command.returncode, on_paper.returncode) == (0, 0)
    assert site.query("SELECT version_num FROM day2.alembic_version") == [("a3",)]


def test_another_history_of_the_same_identifiers_is_no_history_of_ours(
    site: Site, tmp_path: Path
) -> None:
    """Two teams count from a1 alike; nothing of the one is taken for the other's, or taken back."""
    steps = {"a1": "pass", "a2": "pass"}
    theirs = history_of(tmp_path / "theirs", steps)
    site.run(revisions=theirs)
    ours = history_of(tmp_path / "ours", steps | {"a3": "pass"})
    settings = site.settings._replace(allow_rollback=True)
    back = site.request(Action.ROLLBACK, "a1")._replace(from_revision="a2")
    vouch = site.request(Action.STAMP, "a2")._replace(from_revision="a2")

    def written(a1: str, a2: str) -> Revisions:
        for name, description in (("a1", a1), ("a2", a2)):
            script = tmp_path / "ours" / "alembic" / "versions" / f"{name}.py"
            head, _, rest = script.read_text().partition('"""\n')
            assert head
            script.write_text(f'"""{description}"""\n{rest}\n')
        return Revisions(tmp_path / "ours" / "alembic.ini")

    # Mended, and one of them renamed: the same history.
    mended = site.run(Action.STATUS, revisions=written("Revision a1", "Our second"))
    other = written("Our first", "Our second")
    status = site.run(Action.STATUS, revisions=other)
    for request in (
        site.request(),
        site.request(Action.PLAN),
        site.request(Action.CHECK, None),
        back,
    ):
        with pytest.raises(DatabaseAhead, match="at a2 of another history: there it is 'Revision"):
            site.run(request=request, revisions=other, settings=settings)
    command = alembic(
        "-x", f"url={url_of(site)}", "upgrade", "head", folder=tmp_path / "ours"
    ).stdout
    before = site.query("SELECT version_num FROM day2.alembic_version")
    site.run(request=vouch, revisions=other, settings=settings)

    assert mended.report.changed_files == ["a1", "a2"]
    assert "would fail" not in mended.message
    assert "would fail: the database is at a2 of another history" in status.message
    assert "FAILED: the database is at a2 of another history" in command
    assert before == [("a2",)]
    assert ours.identifiers == other.identifiers
    assert site.run(revisions=other).report.applied == ["a3"]
