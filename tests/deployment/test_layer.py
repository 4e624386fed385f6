"""A team's migrations as a layer of their own: what is in it, and what is never packaged."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest

from core.revisions.folder import Folder
from core.revisions.manifest import CONTRACT
from infra import package as packaging
from infra.byte_code import faults
from infra.package import OUTPUT, Package, PackageError
from tests.equipment.histories import folder_of, table

FIRST = {"a1": table("a1")}
SECOND = FIRST | {"a2": table("a2")}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return a team's folder with one revision."""
    return folder_of(tmp_path / "acme", FIRST)


def packaged(folder: Folder) -> Package:
    """Package *folder* for the interpreter that runs this."""
    return packaging.build(OUTPUT / "local", migrations=folder)


def content(package: Package) -> dict[str, bytes]:
    """Return the files of the layer, by name."""
    assert package.migrations
    with zipfile.ZipFile(package.migrations) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def test_a_new_revision_is_a_new_layer_and_the_function_stays(
    folder: Folder, package: Package
) -> None:
    """Byte for byte; the build is named by both."""
    first = packaged(folder)
    kept = first.function.read_bytes()
    second = packaged(folder_of(folder.path, SECOND))

    assert second.function.read_bytes() == kept
    assert first.function_key == second.function_key == package.function_key
    assert first.layer_key == second.layer_key == package.layer_key
    assert (package.migrations, package.migrations_key) == (None, "")
    assert first.migrations_key != second.migrations_key
    assert re.fullmatch(r"day2/migrations-[0-9a-f]{16}\.zip", second.migrations_key)
    names = [one.build.split("+") for one in (first, second)]
    assert [one[0] for one in names] == [package.build] * 2
    assert re.fullmatch("[0-9a-f]{12}", names[0][1])
    assert names[0][1] != names[1][1]
    assert content(second)["migrations/BUILD"].decode() == f"{names[1][1]}\n"


def test_the_layer_holds_what_runs_and_its_byte_code(folder: Folder) -> None:
    """The revisions, what they import and their promises; no test, note, secret or environment."""
    for name, text in {
        "naming.py": "ROLE = 'acme'",
        "shared/__init__.py": "",
        "shared/sql.py": "",
        "acme/names.py": "",
        "tools/make.py": "",
        "versions/sql/seed.sql": "SELECT 1",
        "tests/__init__.py": "",
        "tests/test_them.py": "",
        "golden/17.txt": "",
        "venv/lib/site.py": "",
        ".env": "PASSWORD=x",
        "versions/.hidden.py": "",
        "versions/notes.md": "",
        "versions/a1.py.bak": "",
        "versions/#a1.py#": "",
        "versions/__pycache__/a1.cpython-36.pyc": "another Python's",
        "README.md": "",
        "Makefile": "",
    }.items():
        (folder.path / name).parent.mkdir(exist_ok=True, parents=True)
        (folder.path / name).write_text(text)
    script = folder.versions / "a1.py"
    script.write_text(f"import acme.names\n{script.read_text()}")

    package = packaged(folder)
    found = content(package)

    shared = {"naming.py", "acme/names.py", "shared/__init__.py", "shared/sql.py"}
    sources = {*shared, "versions/a1.py"}
    tag = sys.implementation.cache_tag
    byte_code = {re.sub(r"([^/]+)\.py$", rf"__pycache__/\1.{tag}.pyc", one) for one in sources}
    others = {"BUILD", "layer.json", "history.json", "promises.toml", "versions/sql/seed.sql"}
    assert found.keys() == {f"migrations/{one}" for one in sources | byte_code | others}
    assert package.migrations
    assert faults(package.migrations.with_suffix("")) == []
    said = json.loads(found["migrations/layer.json"])
    assert said == {"python": tag, "contract": CONTRACT}
    assert json.loads(found["migrations/history.json"]).keys() == {"a1.py"}


def test_the_same_folder_gives_the_same_layer(folder: Folder, tmp_path: Path) -> None:
    """Wherever it lies, and whenever it is built."""
    again = folder_of(tmp_path / "elsewhere", FIRST)

    first, second = packaged(folder), packaged(again)

    assert content(first) == content(second)
    assert first.migrations_key == second.migrations_key


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"versions/a1.py": None}, "there is no revision in it: write the first one"),
        ({"versions/b.py": "revision = 'b'\ndown_revision = None"}, "there are several heads"),
        ({"versions/b.py": "revision = 'b'\ndown_revision = 'x'"}, "'x', which no file defines"),
        ({"versions/b.py": "revision = 'b"}, "b.py:1: SyntaxError"),
        ({"naming.py": "def"}, "naming.py"),
        ({"promises.toml": "[[rule]]\nname = 'x'"}, "[[rule]] promises nothing"),
        ({"promises.toml": "[[role]]\nname = 'x'\nsince = 'a9'"}, "since = 'a9' names no revision"),
        ({"versions/b.py": Path("nowhere")}, "versions/b.py is a link to nothing, or to a folder"),
        ({"naming.py": Path("nowhere")}, "naming.py is a link to nothing"),
        ({"versions/sql": Path("/tmp")}, "versions/sql is a link to nothing, or to a folder"),  # noqa: S108
        (
            {"versions/2026/b.py": "revision = 'b'\ndown_revision: str | None = 'a1'"},
            "2026/b.py is a revision in a folder of its own, where none is looked for: move it to",
        ),
    ],
)
def test_migrations_that_cannot_be_run_are_not_packaged(
    folder: Folder, files: dict[str, str | Path | None], problem: str, tmp_path: Path
) -> None:
    """Neither none nor broken ones; the message names folder and file, before all else is made."""
    for name, text in files.items():
        file = folder.path / name
        file.parent.mkdir(exist_ok=True)
        if text is None:
            file.unlink()
        elif isinstance(text, Path):
            file.symlink_to(text)
        else:
            file.write_text(text)

    with pytest.raises(PackageError, match=re.escape(problem)) as caught:
        packaging.build(tmp_path / "built", migrations=folder)

    assert str(folder.path) in str(caught.value)
    (made,) = (tmp_path / "built").iterdir()
    assert {one.name for one in made.iterdir()} <= {".lock", "migrations"}


def test_what_is_uploaded_and_passed_on(folder: Folder, package: Package) -> None:
    """Without migrations the stack keeps those that it has: no parameter is passed on."""
    for one in (package, packaged(folder)):
        packaging._lay_out_for_upload(one)
        here = one.function.parent
        passed = dict(line.split("=") for line in (here / "parameters").read_text().splitlines())
        uploaded = {
            file.relative_to(here / "upload").as_posix()
            for file in (here / "upload").rglob("*.zip")
        }
        keys = {passed[name] for name in passed if name.endswith("Key")}
        assert uploaded == keys == set(one.archives)
        assert ("MigrationsKey" in passed) == (one.migrations is not None)
