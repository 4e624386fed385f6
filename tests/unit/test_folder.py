"""A folder of migrations: found wherever it lies, or refused in a line that names the cure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.errors import RunFailed
from core.revisions import scripts
from core.revisions.folder import EXAMPLES, Folder
from infra import migrations


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """Make a folder of migrations, with a space in its name."""
    folder = tmp_path / "acme migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "promises.toml").touch()
    return folder


def test_without_a_name_it_is_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a folder like any other."""
    monkeypatch.delenv(migrations.VARIABLE, raising=False)

    assert migrations.chosen() == EXAMPLES
    assert Folder.named(str(EXAMPLES.path), "MIGRATIONS") == EXAMPLES


@pytest.mark.parametrize("how", ["absolute", "relative", "home", "link", "slash"])
def test_it_is_found_however_it_is_named(
    how: str, acme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative name counts from where the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    link = tmp_path / "link"
    link.symlink_to(acme)
    text = {
        "absolute": str(acme),
        "relative": "acme migrations",
        "home": "~/acme migrations",
        "link": str(link),
        "slash": f"{acme}/",
    }[how]
    monkeypatch.setenv(migrations.VARIABLE, text)

    assert migrations.chosen().versions.samefile(acme / "versions")


def test_what_is_no_folder_is_refused_with_the_cure(acme: Path, tmp_path: Path) -> None:
    """In one line that says who named it."""
    bare = tmp_path / "bare"
    bare.mkdir()
    unpromised = tmp_path / "unpromised"
    (unpromised / "versions").mkdir(parents=True)
    file = tmp_path / "file"
    file.touch()
    wrong = {
        "": "names no folder: give one, or leave MIGRATIONS out",
        " ": "names no folder",
        "a\nb": "is not the name of a folder",
        str(tmp_path / "none"): "there is no folder",
        str(file): "is a file: name the folder",
        str(bare): "has no folder versions/",
        str(acme / "versions"): f"name the folder above it, {acme}",
        str(unpromised): "has no promises.toml",
    }
    for text, said in wrong.items():
        with pytest.raises(RunFailed) as caught:
            Folder.named(text, "MIGRATIONS")
        assert str(caught.value).startswith("MIGRATIONS=")
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_revision_imports_what_lies_beside_its_folder(
    acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A team shares code between revisions; it hides nothing of ours or of a library."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (acme / "acme_names.py").write_text("TEAM = 'acme'\n")
    (acme / "core").mkdir()
    (acme / "core" / "__init__.py").write_text("raise AssertionError('theirs')\n")
    (acme / "versions" / "001.py").write_text(
        '"""One"""\nfrom acme_names import TEAM\nfrom core import operations\n'
        "revision = '001'\ndown_revision = None\n"
    )
    (one,) = scripts.read(acme / "versions")

    assert scripts.load(one).TEAM == "acme"
