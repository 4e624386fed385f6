"""
Build what is deployed: the function's zip and its layers', the same bytes from the same sources.

Ours goes into the function and the libraries into a layer, because two folders named ``alembic``
must not merge. A team's migrations are a layer of their own: a new revision is a new one, and the
function stays as it is, byte for byte; what it holds itself are the examples. For Lambda the
wheels are chosen for its Python and processor, for the local AWS for the interpreter that runs
this. Nothing is compiled from C, and no container is needed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.errors import RunFailed
from core.revisions import manifest
from core.revisions.folder import EXAMPLES, Folder
from infra import imports
from infra.environments import MADE, for_pip
from infra.migrations import chosen

ROOT = Path(__file__).parents[1]
LAYER_LOCK = ROOT / "infra" / "requirements" / "layer.txt"
OUTPUT = MADE / "build"

# Ours: what the function needs at run time, and no more.
FUNCTION_SOURCES = ("handlers", "core", "alembic", "alembic.ini")
EXAMPLES_TO_COPY = Path("alembic") / "examples"
NOT_DEPLOYED = (".mako", ".md", ".txt", ".pyc", ".orig", ".rej", ".bak", "~", "#")

# Libraries with parts in C that we need. Everything else comes as a pure Python wheel: SQLAlchemy's
# compiled parts fetch many rows faster, which no migration does, and weigh 9 MB.
COMPILED = frozenset({"markupsafe", "psycopg2-binary"})

# What no import and no licence asks for: tests, build inputs, console scripts, the templates of
# `alembic init`, the pages of an HTTP API, and notes that pip leaves for its next run.
TRIMMED = (
    "bin",
    "*.dist-info/INSTALLER",
    "*.dist-info/RECORD",
    "*.dist-info/REQUESTED",
    "**/*.c",
    "**/*.pxd",
    "**/*.pyi",
    "**/*.pyx",
    "alembic/templates",
    "alembic/testing",
    "aws_lambda_powertools/event_handler/openapi/swagger_ui",
    "sqlalchemy/testing",
)

# Lambda's Python 3.12 and newer run on Amazon Linux 2023, whose glibc is 2.34.
GLIBC_TAGS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}  # Lambda's word: the wheels' word

# Lambda unpacks layers there. What is in the folder is the template's DAY2_MIGRATIONS.
LAYERS_AT = "/opt"
MIGRATIONS = "migrations"

# What the scripts say of the revisions, so that the function knows it without Alembic.
LIST_REVISIONS = """
import sys
from pathlib import Path
from core.errors import RunFailed
from core.revisions import manifest, scripts
from core.revisions.folder import Folder
from core.revisions.promises import Promises
folder = Folder(Path(sys.argv[1]))
try:
    found = scripts.read(folder.versions)
    promises = Promises.load(folder.promises)
except RunFailed as error:
    sys.exit(str(error))
if not found and "--some" in sys.argv:
    sys.exit("there is no revision in it: write the first one")
if wrong := promises.faults([one.identifier for one in found]):
    sys.exit(wrong[0])
manifest.write(folder, found)
"""

MEGABYTE = 1_000_000
ZIPPED_LIMIT = 15 * MEGABYTE
UNZIPPED_LIMIT = 45 * MEGABYTE

# A zip can say nothing older, and nothing here may depend on when it was built.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class PackageError(Exception):
    """The package cannot be built here; the message says what is missing."""


@dataclass(frozen=True)
class Platform:
    """Where a package will run."""

    python: Path  # the interpreter that makes its byte code
    python_release: str  # such as 3.13
    architecture: str  # x86_64 or arm64, as Lambda says it
    wheel_tags: tuple[str, ...]  # empty: those of the interpreter that runs this

    @property
    def runtime(self) -> str:
        """Lambda's name for the interpreter, such as ``python3.13``."""
        return f"python{self.python_release}"

    @property
    def cache_tag(self) -> str:
        """Python's own name for it in the names of byte code, such as ``cpython-313``."""
        return f"cpython-{self.python_release.replace('.', '')}"


@dataclass(frozen=True)
class Package:
    """
    The zips, and what the template's parameters want to know about them.

    Attributes:
        migrations: The layer of a team's own; ``None`` where the examples are what is deployed.
        build: What status and log will say: 12 hexadecimal digits of the function, and 12 of
            *migrations* behind a plus sign.
    """

    function: Path
    layer: Path
    migrations: Path | None
    build: str
    runtime: str
    architecture: str

    @cached_property
    def function_key(self) -> str:
        """Name the object in a bucket by its content, so that a deployment sees a change."""
        return _object_key("function", self.function)

    @cached_property
    def layer_key(self) -> str:
        """See *function_key*."""
        return _object_key("layer", self.layer)

    @cached_property
    def migrations_key(self) -> str:
        """See *function_key*; empty where the examples are what is deployed."""
        return _object_key(MIGRATIONS, self.migrations) if self.migrations else ""

    @property
    def archives(self) -> dict[str, Path]:
        """The zips, by their objects' names."""
        found = {self.function_key: self.function, self.layer_key: self.layer}
        return found | ({self.migrations_key: self.migrations} if self.migrations else {})


def here() -> Platform:
    """Describe the machine and the interpreter that run this, for the local AWS."""
    architecture = "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "x86_64"
    release = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Platform(Path(sys.executable), release, architecture, ())


def on_lambda(python_release: str, architecture: str, environ: Mapping[str, str]) -> Platform:
    """
    AWS's Python *python_release* on *architecture*.

    Raises:
        PackageError: That Python is not installed here, so its byte code cannot be made.
    """
    wanted = environ.get("PYTHON_FOR_LAMBDA") or f"python{python_release}"
    tags = tuple(f"{tag}_{MACHINES[architecture]}" for tag in GLIBC_TAGS)
    probe = (
        "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2], sys.executable)"
    )
    try:
        answer = subprocess.run([wanted, "-c", probe], capture_output=True, text=True, check=True)
        implementation, release, executable = answer.stdout.strip().split(" ", 2)
    except (OSError, subprocess.CalledProcessError, ValueError):
        implementation, release, executable = "", "", ""
    if (implementation, release) != ("cpython", python_release):
        found = f"is {implementation} {release}" if release else "does not run"
        raise PackageError(
            f"the package ships byte code, which only Lambda's own CPython {python_release} can "
            f"make, and {wanted!r} {found}. Install it, or say where it is: "
            f"make package PYTHON_FOR_LAMBDA=/path/to/python{python_release}"
        )
    return Platform(Path(executable), python_release, architecture, tags)


def build(
    output: Path = OUTPUT, target: Platform | None = None, migrations: Folder = EXAMPLES
) -> Package:
    """
    Build function and layers under *output*, for this interpreter unless *target* says else.

    The trees that were zipped stay beside the zips. The function is built again only when one of
    our files, the layer's lock, this code or the platform changes; the layer of the libraries, when
    one of the last three does. *migrations* other than the examples become a layer.

    Raises:
        PackageError: A wheel could not be installed, byte code is not valid, or the migrations
            are none, or not one line.
    """
    target = target or here()
    output = output / f"{target.runtime}-{target.architecture}"
    output.mkdir(parents=True, exist_ok=True)
    # Two at once would empty each other's trees: the tests' workers, or a person in two windows.
    with (output / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        own, its = None, ""
        # First: who has a mistake in a migration hears of it before anything is fetched.
        if migrations != EXAMPLES:
            own, its = _build_migrations(output, target, migrations)
        layer = _build_layer(output, target)
        function, identity = _build_function(output, target)
        if own is not None:
            identity = f"{identity}+{its}"
    return Package(function, layer, own, identity, target.runtime, target.architecture)


def function_files(root: Path = ROOT) -> Iterator[Path]:
    """Yield every file of ours that is deployed, relative to *root*, in a fixed order."""
    for source in FUNCTION_SOURCES:
        path = root / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(root)
            if EXAMPLES_TO_COPY not in name.parents and _is_deployed(name) and file.is_file():
                yield name


def build_identity(root: Path = ROOT) -> str:
    """
    Name the build by what is in it: our files and the layer's lock.

    The same on every machine and Python, so the local AWS and the real one agree on it.
    """
    return _named_by_content(root, [*function_files(root), LAYER_LOCK.relative_to(ROOT)])


def migrations_files(folder: Folder) -> Iterator[Path]:
    """
    Yield every file of a team's that is deployed, relative to *folder*, in a fixed order.

    The revisions with what lies beside them, their promises, and the modules that they may import:
    those beside ``versions/``, alone or as packages, and a folder without ``__init__.py`` if they
    do. A team's tests, notes and workflows stay home.
    """
    yield Path(folder.promises.name)
    packages = {
        one
        for one in folder.path.iterdir()
        if (one / "__init__.py").is_file() and one.name != "tests"
    }
    modules = {*packages, *folder.path.glob("*.py"), *imports.of(folder).beside}
    for source in sorted({folder.versions, *modules}):
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if not _is_deployed(name := file.relative_to(folder.path)):
                continue
            if file.is_symlink() and not file.is_file():
                raise PackageError(
                    f"{folder.path}: {name} is a link to nothing, or to a folder: put the files "
                    "themselves there"
                )
            if file.is_file():
                yield name


def _is_deployed(name: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    return not hidden and not name.name.endswith(NOT_DEPLOYED)


def _named_by_content(root: Path, names: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for name in names:
        content = (root / name).read_bytes()
        digest.update(f"{name.as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def complete_function(tree: Path, target: Platform) -> None:
    """
    Add what is derived from the sources in *tree*: the list of the revisions, and byte code.

    Raises:
        PackageError: The revisions are not one line, or a source does not compile.
    """
    # A folder without a file is in no tree; with the migrations in a layer, none is needed here.
    (tree / "alembic" / "versions").mkdir(exist_ok=True)
    # It is the tree's core that lists them.
    _list_revisions(tree, tree / "alembic")
    _add_byte_code(tree, "/var/task", target)


def _list_revisions(root: Path, folder: Path, *options: str) -> None:
    """Have the core in *root* list the revisions in *folder*, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", LIST_REVISIONS, folder, *options],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PackageError(done.stderr.strip())


def write_zip(tree: Path, archive: Path) -> None:
    """
    Zip *tree*: names in order, no times, no owners, one mode.

    Whoever reads *archive* meanwhile, to name or to upload it, reads the one before, whole.
    """
    unfinished = archive.with_suffix(".unfinished")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), ZIP_EPOCH)
            entry.create_system = 3  # Unix, also when packaged elsewhere
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(entry, path.read_bytes())
    unfinished.replace(archive)


def unzipped_size(archive: Path) -> int:
    """Bytes that *archive* takes once Lambda has unpacked it."""
    with zipfile.ZipFile(archive) as zipped:
        return sum(entry.file_size for entry in zipped.infolist())


def _build_function(output: Path, target: Platform) -> tuple[Path, str]:
    """Build the function; one of the same content is left as it is, since others may use it."""
    tree, archive, stamp = (output / f"function{suffix}" for suffix in ("", ".zip", ".key"))
    identity = build_identity()
    key = f"{identity} {_made_by(target)}"
    if _is_built(archive, stamp, key):
        return archive, identity
    stamp.unlink(missing_ok=True)
    _emptied(tree)
    for name in function_files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    (tree / "BUILD").write_text(f"{identity}\n")
    complete_function(tree, target)
    write_zip(tree, archive)
    stamp.write_text(key)
    return archive, identity


def _build_migrations(output: Path, target: Platform, folder: Folder) -> tuple[Path, str]:
    """Build the layer with the migrations in *folder*, and name it by its content."""
    names = list(migrations_files(folder))
    identity = _named_by_content(folder.path, names)
    # Another folder's may be built, and taken, at the same time.
    tree = _emptied(output / MIGRATIONS / identity)
    archive = tree.with_name(f"{identity}.zip")
    made = Folder(tree / MIGRATIONS)
    for name in names:
        (made.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder.path / name, made.path / name)
    made.versions.mkdir(exist_ok=True)
    try:
        _list_revisions(ROOT, made.path, "--some")
        _add_byte_code(made.path, f"{LAYERS_AT}/{MIGRATIONS}", target)
    except PackageError as error:
        raise PackageError(f"{folder.path}: {error}") from None
    (made.path / "BUILD").write_text(f"{identity}\n")
    said = {"python": target.cache_tag, "contract": manifest.CONTRACT}
    made.packaged_for.write_text(json.dumps(said) + "\n")
    write_zip(tree, archive)
    return archive, identity


def _build_layer(output: Path, target: Platform) -> Path:
    tree, archive, stamp = (output / f"layer{suffix}" for suffix in ("", ".zip", ".key"))
    key = _made_by(target)
    if _is_built(archive, stamp, key):
        return archive
    stamp.unlink(missing_ok=True)
    libraries = _emptied(tree) / "python"
    _install(libraries, target)
    for pattern in TRIMMED:
        for path in sorted(libraries.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _add_byte_code(libraries, "/opt/python", target)
    write_zip(tree, archive)
    stamp.write_text(key)
    return archive


def _is_built(archive: Path, stamp: Path, key: str) -> bool:
    return archive.exists() and stamp.exists() and stamp.read_text() == key


def _made_by(target: Platform) -> str:
    """Everything but our own files that decides the bytes of what is built, as one digest."""
    digest = hashlib.sha256(f"{target}".encode())
    for file in (LAYER_LOCK, Path(__file__), Path(__file__).with_name("byte_code.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _install(libraries: Path, target: Platform) -> None:
    """Install the layer's lock into *libraries*, compiled wheels only where they are needed."""
    pure = ("--platform=any", "--implementation=py", "--abi=none")
    compiled = tuple(f"--platform={tag}" for tag in target.wheel_tags)
    if compiled:
        compiled += ("--implementation=cp",)
    release = f"--python-version={target.python_release}"
    locked = _locked(LAYER_LOCK.read_text())
    for tags, names in (
        ((release, *pure), locked.keys() - COMPILED),
        ((release, *compiled) if compiled else (), COMPILED),
    ):
        with tempfile.TemporaryDirectory() as folder:
            requirements = Path(folder) / "requirements.txt"
            requirements.write_text("".join(locked[name] for name in sorted(names)))
            _pip_install(
                "--require-hashes",
                "--no-deps",
                "--only-binary=:all:",
                "--no-compile",
                *tags,
                f"--target={libraries}",
                f"--requirement={requirements}",
            )


def _locked(lock: str) -> dict[str, str]:
    """Each library's lines of *lock*, by its name; comments are left out."""
    locked: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            name = line.partition("==")[0]
        locked[name] = locked.get(name, "") + line
    return locked


def _pip_install(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=for_pip())
    if done.returncode:
        raise PackageError(f"the layer's libraries could not be installed:\n{done.stderr.strip()}")


def _add_byte_code(tree: Path, installed_at: str, target: Platform) -> None:
    """Have the target's Python compile *tree*, and check that it would use all of it."""
    program = str(Path(__file__).with_name("byte_code.py"))
    command = [str(target.python), "-S", "-B", "-W", "ignore", program, str(tree), installed_at]
    # Nothing of the caller's environment may tell in the result, PYTHONPYCACHEPREFIX least of all.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONHASHSEED": "0"}
    )
    if done.returncode:
        raise PackageError(f"byte code of {tree.name}:\n{done.stderr.strip()}")


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _object_key(name: str, archive: Path) -> str:
    return f"day2/{name}-{hashlib.sha256(archive.read_bytes()).hexdigest()[:16]}.zip"


def _lay_out_for_upload(package: Package) -> None:
    """
    Write what `make deploy` uploads and passes on: ``upload/`` and ``parameters``, beside the zips.

    The folder holds the objects under their keys, the file the template's parameters.
    """
    folder = package.function.parent
    upload = _emptied(folder / "upload")
    for key, archive in package.archives.items():
        (upload / key).parent.mkdir(exist_ok=True)
        shutil.copyfile(archive, upload / key)
    parameters = {"FunctionKey": package.function_key, "LayerKey": package.layer_key}
    if package.migrations:
        # Else a stack keeps those that it has: a deployment of day2 alone is no change of theirs.
        parameters["MigrationsKey"] = package.migrations_key
    parameters |= {"Runtime": package.runtime, "Architecture": package.architecture}
    lines = (f"{name}={value}\n" for name, value in parameters.items())
    (folder / "parameters").write_text("".join(lines))


def main() -> None:
    """Build for AWS, and say what came of it."""
    parser = argparse.ArgumentParser(description="Build the zips of the function and its layers.")
    parser.add_argument("--python", default="3.13", metavar="X.Y", help="Lambda's Python")
    parser.add_argument("--architecture", default="arm64", choices=sorted(MACHINES))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    try:
        # What was asked for is looked at before what is installed here.
        folder = chosen()
        target = on_lambda(arguments.python, arguments.architecture, os.environ)
        package = build(arguments.output, target, folder)
    except (PackageError, RunFailed) as error:
        raise SystemExit(f"make package: {error}") from None

    archives = package.archives.values()
    _lay_out_for_upload(package)
    for archive in archives:
        size, unpacked = archive.stat().st_size / MEGABYTE, unzipped_size(archive) / MEGABYTE
        print(f"{os.path.relpath(archive)}: {size:.1f} MB, unpacked {unpacked:.1f} MB")
    print(f"build {package.build} for {package.runtime} on {package.architecture}")
    if (
        sum(archive.stat().st_size for archive in archives) > ZIPPED_LIMIT
        or sum(map(unzipped_size, archives)) > UNZIPPED_LIMIT
    ):
        raise SystemExit("make package: larger than we promise: 15 MB zipped, 45 MB unpacked")


if __name__ == "__main__":
    main()
