"""What is in the two zips, and that they come out the same every time."""

from __future__ import annotations

import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from infra import package as packaging
from infra.byte_code import compile_tree, faults
from infra.package import Package, PackageError
from tests.equipment.histories import OURS

LIBRARIES = {
    "alembic",
    "aws_lambda_powertools",
    "jmespath",
    "mako",
    "markupsafe",
    "psycopg2",
    "sqlalchemy",
    "typing_extensions.py",
}


def names(archive: Path) -> list[str]:
    """List the files of *archive*."""
    with zipfile.ZipFile(archive) as zipped:
        return zipped.namelist()


def copy_of_ours(folder: Path) -> Path:
    """Copy what the identity of a build is made of into *folder*."""
    for name in [*packaging.function_files(), packaging.LAYER_LOCK.relative_to(packaging.ROOT)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(packaging.ROOT / name, folder / name)
    return folder


def with_our_history(root: Path) -> Path:
    """Put the tests' own revisions and promises into the copy at *root*; return their folder."""
    versions = root / "alembic" / "versions"
    shutil.rmtree(versions, ignore_errors=True)
    shutil.copytree(OURS.versions, versions)
    shutil.copy(OURS.promises, versions.parent)
    return versions


def test_the_function_holds_our_files_and_their_byte_code(package: Package) -> None:
    """Nothing else: no tests, no template of a new migration, no notes."""
    sources = {name.as_posix() for name in packaging.function_files()}
    content = set(names(package.function))

    tag = sys.implementation.cache_tag
    byte_code = {
        re.sub(r"([^/]+)\.py$", rf"__pycache__/\1.{tag}.pyc", name)
        for name in sources
        if name.endswith(".py")
    }
    assert content == sources | byte_code | {"BUILD", "alembic/history.json"}
    tops = {name.partition("/")[0] for name in content}
    assert tops == {"handlers", "core", "alembic", "alembic.ini", "BUILD"}
    assert {Path(name).suffix for name in sources} <= {".py", ".ini", ".pem", ".sql", ".toml"}


def test_our_alembic_folder_is_no_python_package(package: Package) -> None:
    """An __init__.py there would hide the library."""
    assert "alembic/__init__.py" not in names(package.function)
    assert "alembic/env.py" in names(package.function)


def test_the_layer_holds_the_libraries_and_their_licences(package: Package) -> None:
    """And never boto3: the runtime brings it."""
    content = names(package.layer)
    tops = {name.split("/")[1] for name in content}
    distributions = {top for top in tops if top.endswith(".dist-info")}

    assert {name.split("/")[0] for name in content} == {"python"}
    # a wheel for macOS has its native libraries inside psycopg2
    assert tops - distributions - {"__pycache__", "psycopg2_binary.libs"} == LIBRARIES
    for distribution in distributions:
        assert f"python/{distribution}/METADATA" in content
    assert not any(name.endswith((".pyi", ".pyx", ".c", "/RECORD")) for name in content)


def test_the_layer_is_complete(package: Package) -> None:
    """All that the function imports comes from it, without any other library on the path."""
    program = (
        "import alembic.command, psycopg2, sqlalchemy.orm\n"
        "import sqlalchemy.dialects.postgresql.psycopg2\n"
        "from aws_lambda_powertools import Logger, Metrics\n"
        "print(alembic.__file__)"
    )
    tree = package.layer.with_suffix("") / "python"
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-c", program],
        env={"PYTHONPATH": f"{package.function.with_suffix('')}{os.pathsep}{tree}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert Path(done.stdout.strip()) == tree / "alembic" / "__init__.py"


def test_the_package_is_small(package: Package) -> None:
    """At most 15 MB to upload and 45 MB unpacked, byte code included."""
    archives = (package.function, package.layer)

    assert sum(archive.stat().st_size for archive in archives) <= packaging.ZIPPED_LIMIT
    assert sum(map(packaging.unzipped_size, archives)) <= packaging.UNZIPPED_LIMIT


def test_all_byte_code_is_valid(package: Package) -> None:
    """Lambda cannot write any, so each file that lacks it is compiled by every cold start."""
    assert faults(package.function.with_suffix("")) == []
    assert faults(package.layer.with_suffix("") / "python") == []


def test_byte_code_that_would_not_be_used_is_found(tmp_path: Path) -> None:
    """Missing, of an older source, of the kind that looks at times, or without a source."""
    for name in ("good", "missing", "changed", "timed", "orphan"):
        (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
    compile_tree(tmp_path, PurePosixPath("/var/task"))
    cached = {path.name.partition(".")[0]: path for path in tmp_path.rglob("*.pyc")}
    cached["missing"].unlink()
    (tmp_path / "changed.py").write_text("VALUE = 2\n")
    timed = py_compile.PycInvalidationMode.TIMESTAMP
    py_compile.compile(str(tmp_path / "timed.py"), invalidation_mode=timed)
    (tmp_path / "orphan.py").unlink()

    assert [fault.partition(":")[0] for fault in faults(tmp_path)] == [
        "changed.py",
        "missing.py",
        "timed.py",
        str(cached["orphan"].relative_to(tmp_path)),
    ]


def test_the_same_sources_give_the_same_function(tmp_path: Path, package: Package) -> None:
    """Built again elsewhere and later, not a byte differs."""
    target = packaging.here()
    again, identity = packaging._build_function(tmp_path, target)

    assert identity == package.build
    assert again.read_bytes() == package.function.read_bytes()

    # What is there and the same is left alone: another command may run it or upload it.
    made = again.stat().st_ino
    packaging._build_function(tmp_path, target)
    assert again.stat().st_ino == made
    again.unlink()
    packaging._build_function(tmp_path, target)
    assert again.read_bytes() == package.function.read_bytes()


def test_a_zip_forgets_times_modes_and_order(tmp_path: Path) -> None:
    """Two trees with equal names and contents give equal zips."""
    for tree, order, mode in (("a", ("x", "y"), 0o600), ("b", ("y", "x"), 0o755)):
        (tmp_path / tree / "folder").mkdir(parents=True)
        for name in order:
            file = tmp_path / tree / "folder" / name
            file.write_text(name)
            file.chmod(mode)
            os.utime(file, (mode, mode))
        packaging.write_zip(tmp_path / tree, tmp_path / f"{tree}.zip")

    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_zip_that_is_read_stays_whole_while_it_is_built_again(tmp_path: Path) -> None:
    """Another command, or another test's, may name it by its content and upload it meanwhile."""
    tree, archive = tmp_path / "tree", tmp_path / "it.zip"
    tree.mkdir()
    (tree / "a").write_text("1")
    packaging.write_zip(tree, archive)
    whole = archive.read_bytes()

    with archive.open("rb") as reader:
        (tree / "a").write_text("2")
        packaging.write_zip(tree, archive)
        read = reader.read()

    assert read == whole != archive.read_bytes()
    assert sorted(tmp_path.iterdir()) == [archive, tree]


def test_the_build_is_named_by_its_content(tmp_path: Path, package: Package) -> None:
    """Ours or a library's change gives another name; what is not deployed gives none."""
    root = copy_of_ours(tmp_path)
    with zipfile.ZipFile(package.function) as zipped:
        assert zipped.read("BUILD").decode() == f"{package.build}\n"
    assert re.fullmatch("[0-9a-f]{12}", package.build)
    assert packaging.build_identity(root) == package.build

    (root / "core" / "notes.md").write_text("not deployed")
    assert packaging.build_identity(root) == package.build
    with (root / "alembic.ini").open("a") as file:
        file.write("# one more line\n")
    assert packaging.build_identity(root) != package.build


def test_a_file_of_sql_that_a_revision_runs_is_deployed(tmp_path: Path) -> None:
    """It lies beside the revisions, and the list of them names it."""
    root = copy_of_ours(tmp_path)
    versions = with_our_history(root)
    (versions / "seed.sql").write_text("SELECT 1")
    (versions / "005_seed.py").write_text(
        "from core import operations\nrevision = '005'\ndown_revision = '004'\n"
        "def upgrade():\n    operations.sql_file('seed.sql')\n"
    )

    packaging.complete_function(root, packaging.here())

    assert Path("alembic/versions/seed.sql") in packaging.function_files(root)
    listed = json.loads((root / "alembic" / "history.json").read_text())
    assert listed["005_seed.py"]["sql_files"] == {"seed.sql": 8}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("revision = '004'\ndown_revision = '003'", "revision 004 is in several files (004_audit"),
        ("revision = 'a-b'\ndown_revision = '004'", "revision 'a-b' (005_x.py) has -, which"),
        (f"revision = {'x' * 33!r}\ndown_revision = '004'", "(005_x.py) is 33 characters long"),
        ("revision = 'heads'\ndown_revision = '004'", "(005_x.py) is a word that means another"),
        ("revision = '005\n", "005_x.py:1: SyntaxError: unterminated string literal"),
    ],
)
def test_a_build_that_cannot_be_loaded_is_not_packaged(
    tmp_path: Path, text: str, problem: str
) -> None:
    """One line names the file, before anything is deployed."""
    root = copy_of_ours(tmp_path)
    (with_our_history(root) / "005_x.py").write_text(text)

    with pytest.raises(PackageError) as caught:
        packaging.complete_function(root, packaging.here())

    (line,) = str(caught.value).splitlines()
    assert problem in line


@pytest.mark.parametrize(
    "python", ["no-such-python", sys.executable], ids=["missing", "another release"]
)
def test_byte_code_is_made_by_lambdas_own_python_or_not_at_all(python: str) -> None:
    """Another release's byte code would be ignored, and every cold start slow."""
    with pytest.raises(PackageError, match=r"only Lambda's own CPython 3\.99 can make"):
        packaging.on_lambda("3.99", "arm64", {"PYTHON_FOR_LAMBDA": python})


def test_the_python_for_lambda_is_found() -> None:
    """The interpreter that is named is asked, and its wheels are chosen for Lambda's processor."""
    release = f"{sys.version_info.major}.{sys.version_info.minor}"
    platform = packaging.on_lambda(release, "arm64", {"PYTHON_FOR_LAMBDA": sys.executable})

    assert (platform.runtime, platform.architecture) == (f"python{release}", "arm64")
    assert "manylinux_2_28_aarch64" in platform.wheel_tags
