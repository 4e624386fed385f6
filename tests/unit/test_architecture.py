"""The import rule of ``core/__init__.py``: handlers to core and never back, one door a library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Where each library may be imported; a type that is only named, under TYPE_CHECKING, is no door.
DOORS = {
    "alembic": {"core/revisions/runner.py", "core/operations.py"},
    "aws_lambda_powertools": {"handlers/reporting.py"},
    "boto3": {"core/aws.py"},
    "botocore": {"core/aws.py"},
    "psycopg2": {"core/postgres/session.py", "core/postgres/diagnosis.py"},
    "sqlalchemy": {"core/postgres/session.py"},
}
# These import the standard library and each other only.
PURE = {
    "core/model.py",
    "core/errors.py",
    "core/outcome.py",
    "core/decisions/plan.py",
    "core/decisions/target.py",
}
OURS = {"core", "handlers"}

# What a constant may be made with. All else that is called at import is work.
HARMLESS = {
    "Config",
    "Logger",
    "MappingProxyType",
    "TypeVar",
    "Metrics",
    "Path",
    "Path(__file__).resolve",
    "dataclass",
    "field",
    "frozenset",
    "gc.set_threshold",
    "logging.getLogger",
    "re.compile",
    "str",
    "timedelta",
    "zlib.crc32",
}
FILES = [path for folder in sorted(OURS) for path in sorted((ROOT / folder).glob("*.py"))]
CORE = [path for path in FILES if path.parent.name == "core"]


@cache
def parsed(path: Path) -> ast.Module:
    """Return the module in *path*, parsed once."""
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    """Return *path* as it is written in the tables above."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, *, with_types: bool) -> Iterator[tuple[int, str]]:
    """Yield line and module of each import in *path*, inside functions too."""

    def walk(node: ast.AST) -> Iterator[tuple[int, str]]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import(names=names):
                    yield from ((child.lineno, alias.name) for alias in names)
                case ast.ImportFrom(module=module, names=names, level=0):
                    # ``from core import history`` imports core.revisions.history.
                    yield from ((child.lineno, f"{module}.{alias.name}") for alias in names)
                case ast.ImportFrom():
                    yield (child.lineno, "a relative module")
                case ast.If(test=ast.Name(id="TYPE_CHECKING")) if not with_types:
                    continue
            yield from walk(child)

    yield from walk(parsed(path))


def test_each_library_is_imported_at_its_door_only() -> None:
    """A change of one library stays within one file."""
    wrong = [
        f"{name_of(path)}:{line} imports {module}: go through {' or '.join(sorted(doors))}"
        for path in FILES
        for line, module in imports(path, with_types=False)
        if (doors := DOORS.get(module.partition(".")[0])) and name_of(path) not in doors
    ]

    assert wrong == []


def test_no_library_comes_in_unnoticed() -> None:
    """Whoever adds a library gives it a door in the table above."""
    known = OURS | set(DOORS) | sys.stdlib_module_names
    strange = [
        f"{name_of(path)}:{line} imports {module}: give it a door in {Path(__file__).name}"
        for path in FILES
        for line, module in imports(path, with_types=True)
        if module.partition(".")[0] not in known
    ]

    assert strange == []


def test_core_never_imports_handlers() -> None:
    """What we do knows nothing of what wakes us."""
    wrong = [
        f"{name_of(path)}:{line} imports {module}: core knows no event shape; let handlers call it"
        for path in CORE
        for line, module in imports(path, with_types=True)
        if module.partition(".")[0] == "handlers"
    ]

    assert wrong == []


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_pure_modules_import_each_other_only(name: str) -> None:
    """Values, errors and plans can be thought about, and tested, alone."""
    known = tuple(pure.removesuffix(".py").replace("/", ".") + "." for pure in PURE)
    wrong = [
        f"{name}:{line} imports {module}: keep it pure; decide in the module that has {module}"
        for line, module in imports(ROOT / name, with_types=True)
        if not module.startswith(known) and module.partition(".")[0] not in sys.stdlib_module_names
    ]

    assert wrong == []


def test_the_environment_is_read_at_one_door() -> None:
    """Variables become Settings in the handler; nobody else looks."""
    wrong = [
        f"{name_of(path)}:{node.lineno} reads the environment: take Settings, which "
        "handlers/application.py makes"
        for path in FILES
        if name_of(path) != "handlers/application.py"
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (isinstance(node, ast.alias) and node.name in ("environ", "environb", "getenv"))
    ]

    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_happens_at_import(path: Path) -> None:
    """A module's top level defines; beside its docstring it may call what is harmless."""
    module = parsed(path)
    assert ast.get_docstring(module), f"{name_of(path)} does not say what lives in it"
    definitions = (
        ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
    )
    wrong = [
        f"{name_of(path)}:{node.lineno} does something at import: put it in a function"
        for node in module.body[1:]
        if not isinstance(node, definitions)
        and not is_type_checking(node)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    ]
    wrong += [
        f"{name_of(path)}:{call.lineno} calls {ast.unparse(call.func)} at import: "
        "make it at first use"
        for node in module.body
        for call in calls_at_import(node)
        if ast.unparse(call.func) not in HARMLESS and not is_of_a_constant(call.func)
    ]

    assert wrong == []


def is_of_a_constant(called: ast.expr) -> bool:
    """Say whether *called* is a method of a literal or of a constant, which does no harm."""
    if not isinstance(called, ast.Attribute):
        return False
    owner = called.value
    return isinstance(owner, ast.Constant) or (isinstance(owner, ast.Name) and owner.id.isupper())


def is_type_checking(node: ast.stmt) -> bool:
    """Say whether *node* is ``if TYPE_CHECKING``."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls in *node* that run when its module is imported."""
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from calls_at_import(child)


def test_our_folder_of_revisions_does_not_hide_the_library() -> None:
    """With an ``__init__.py`` our ``alembic/`` would be imported instead of Alembic."""
    assert list((ROOT / "alembic").rglob("__init__.py")) == []
