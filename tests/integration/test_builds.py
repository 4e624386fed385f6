"""A build as the function and the command take it: what is in it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import MigrationError
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
