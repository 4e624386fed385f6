"""The map in ``core/__init__.py``: which room may import from which, and one door a library."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from core.model import MIGRATION_REQUESTED, SWEEP_REQUESTED
from core.settings import Settings
from tests.conftest import ROOT
from tests.equipment.sources import nodes, parsed

# Where each library may be imported; a type that is only named, under TYPE_CHECKING, needs no door.
DOORS = {
    "alembic": {
        "core/operations/sending.py",
        "core/revisions/alembic_door.py",
        "core/revisions/dialect.py",
        "core/revisions/loop.py",
        "core/revisions/one_revision.py",
        "core/revisions/rendering.py",
        "core/revisions/runner.py",
        "core/revisions/scripts.py",
    },
    "aws_lambda_powertools": {"handlers/reporting.py"},
    "botocore": {"core/aws/calls.py", "core/aws/failures.py"},
    "psycopg2": {
        "core/postgres/notices.py",
        "core/postgres/diagnosis.py",
        "core/postgres/connecting.py",
        "core/postgres/roles.py",
        "core/postgres/session.py",
        "core/postgres/transactions.py",
        "core/postgres/watching.py",
    },
    "sqlalchemy": {
        "core/postgres/acting.py",
        "core/postgres/lending.py",
        "core/revisions/alembic_door.py",
        "core/revisions/dialect.py",
    },
}
# From the top of the house to its ground: a module imports from floors below its own, and in
# a room from its own room. Rooms that share a floor stand side by side and do not meet.
FLOORS = (
    ("handlers",),
    ("core.operations", "core.aws"),
    ("core.actions",),
    ("core.drift",),
    ("core.access", "core.revisions"),
    ("core.postgres", "core.decisions"),
    ("core.settings", "core.budget"),
    ("core.errors",),
    ("core.model",),
    ("core.outcome",),
)
OURS = {"core", "handlers"}

# What a constant may be made with. All else that is called at import is work.
HARMLESS = {
    "Config",
    "Folder",
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
    "ctypes.CFUNCTYPE",
    "ord",
    "str",
    "timedelta",
    "zlib.crc32",
}
FILES = [path for folder in sorted(OURS) for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    """Return *path* as it is written in the tables above."""
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path, *, with_types: bool) -> tuple[tuple[int, str], ...]:
    """Return line and module of each import in *path*, inside functions too."""

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
            # An import is a statement: it stands in no expression.
            if not isinstance(child, ast.expr):
                yield from walk(child)

    return tuple(walk(parsed(path)))


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


def module_of(path: Path) -> str:
    """Return the name of the module in *path*."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def home_of(module: str) -> tuple[int, str] | None:
    """Return the floor, counted from the top, and the room or module that *module* is in."""
    for floor, rooms in enumerate(FLOORS):
        for room in rooms:
            if module == room or module.startswith(f"{room}."):
                return floor, room
    return None


def wrong_import(module: str, imported: str) -> str | None:
    """Return what is wrong with *module* importing *imported*, a module or a name in one."""
    if imported.partition(".")[0] not in OURS or imported in ("core", "handlers"):
        return None
    here, there = home_of(module), home_of(imported)
    if here is None or there is None:
        return f"{module} or {imported} has no place in FLOORS of {Path(__file__).name}"
    if there[0] < here[0]:
        return f"{module} imports {imported}, which is above it: let that one call it"
    if there[0] == here[0] and there[1] != here[1]:
        return f"{module} imports {imported}, which stands beside it: let what is above use both"
    return None


def test_imports_lead_down_the_house() -> None:
    """A stranger who reads a module never has to climb; types count too."""
    wrong = [
        f"{module} has no place in FLOORS of {Path(__file__).name}"
        for module in sorted(MODULES - {"core"})
        if not home_of(module)
    ]
    wrong += [
        f"{name_of(path)}:{line}: {problem}"
        for path in FILES
        for line, imported in imports(path, with_types=True)
        if (problem := wrong_import(module_of(path), imported))
    ]

    assert wrong == []


WRONG = [
    ("core.model", "core.errors"),
    ("core.decisions.plan", "core.postgres.session"),
    ("core.access.locate", "core.revisions.runner"),
    ("core.revisions.runner", "core.actions.apply"),
    ("core.actions.migrate", "handlers.reporting"),
    ("core.actions.migrate", "core.aws.account"),
    ("core.somewhere.new", "core.model"),
    ("core.model", "core.somewhere.new"),
]


@pytest.mark.parametrize(("module", "imported"), WRONG)
def test_the_rule_is_one(module: str, imported: str) -> None:
    """Up, sideways, back to the handlers, to the doors, or where no rule is: each is found."""
    assert wrong_import(module, imported)


def test_no_module_needs_itself() -> None:
    """Within a room, too, imports lead one way."""
    needs = {
        module_of(path): {
            known
            for _, name in imports(path, with_types=True)
            for known in (name, name.rpartition(".")[0])
            if known in MODULES
        }
        for path in FILES
    }
    order = graphlib.TopologicalSorter(needs)

    assert list(order.static_order())


@pytest.mark.parametrize(
    "text",
    [
        "import core.actions.run",
        "from core.actions import run",
        "from core.actions.run import Run",
        "def f() -> None:\n    from core.actions import run",
        "if TYPE_CHECKING:\n    from core.actions.run import Run",
    ],
)
def test_an_import_is_seen_wherever_it_stands(text: str, tmp_path: Path) -> None:
    """A module, a name, in a function, or for a type only."""
    path = tmp_path / "plan.py"
    path.write_text(text)
    found = [name for _, name in imports(path, with_types=True)]

    assert [bool(wrong_import("core.decisions.plan", name)) for name in found] == [True]


def drawn_in(text: str, top: str) -> Iterator[str]:
    """Yield the modules on a map: a room is ``name/``, and what is indented below it is in it."""
    rooms = {0: top}
    for line in text.splitlines():
        if match := re.match(r"((?: {4})+)(\w+)(/?) +\S", line):
            depth = len(match[1]) // 4
            module = f"{rooms[depth - 1]}.{match[2]}"
            if match[3]:
                rooms[depth] = module
            else:
                yield module


@pytest.mark.parametrize("top", ["core", "infra"])
def test_the_map_names_every_module(top: str) -> None:
    """``__init__.py`` is where a stranger looks first: each file in its room, and no other."""
    drawn = list(drawn_in(ast.get_docstring(parsed(ROOT / top / "__init__.py")) or "", top))
    files = [path for path in (ROOT / top).rglob("*.py") if not path.stem.startswith("__")]

    assert sorted(drawn) == sorted(module_of(path) for path in files)


def test_every_error_is_in_the_tree() -> None:
    """The tree at the head of ``core/errors.py`` names each error, under its own parent."""
    module = parsed(ROOT / "core/errors.py")
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (ast.get_docstring(module) or "").splitlines():
        if match := re.match(r"((?:[│ ]   )*)[├└]── (\w+)", line):
            above[len(match[1]) // 4 + 1 :] = [match[2]]
            drawn[match[2]] = above[-2]
        elif line == "MigrationError":
            above = [line]
    written = {
        node.name: ast.unparse(node.bases[0])
        for node in module.body
        if isinstance(node, ast.ClassDef)
    }

    assert drawn == {name: base for name, base in written.items() if base != "Exception"}


def test_the_environment_is_read_at_one_door() -> None:
    """Variables become Settings in the handler; else they are only put back as they were."""
    wrong = [
        f"{name_of(path)}:{node.lineno} reads the environment: take Settings, which "
        "handlers/application.py makes"
        for path in FILES
        if name_of(path) not in ("handlers/application.py", "core/revisions/containment.py")
        for node in nodes(path)
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (isinstance(node, ast.alias) and node.name in ("environ", "environb", "getenv"))
    ]

    assert wrong == []


def test_every_setting_sets_something() -> None:
    """One that nothing reads is a promise of the template that nobody keeps."""
    read = {
        node.attr
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }

    assert [name for name in Settings._fields if name not in read] == []


def test_what_wakes_us_is_written_and_read_in_one_place_each() -> None:
    """The detail-types are used by the writer and by the reader only."""
    names = {"MIGRATION_REQUESTED", "SWEEP_REQUESTED"}
    texts = {MIGRATION_REQUESTED, SWEEP_REQUESTED}
    users = {
        name_of(path)
        for path in FILES
        for node in nodes(path)
        if (isinstance(node, ast.alias) and node.name in names)
        or (isinstance(node, ast.Constant) and node.value in texts)
    }

    assert users == {"core/actions/bus.py", "core/model.py", "handlers/requests.py"}


def test_every_module_says_what_lives_in_it() -> None:
    """In its docstring."""
    assert [name_of(path) for path in FILES if not ast.get_docstring(parsed(path))] == []


def test_nothing_happens_at_import() -> None:
    """A module's top level defines; beside its docstring it may call what is harmless."""
    definitions = (
        ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
    )
    wrong = [
        f"{name_of(path)}:{node.lineno} does something at import: put it in a function"
        for path in FILES
        for node in parsed(path).body[1:]
        if not isinstance(node, definitions)
        and not is_type_checking(node)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    ]
    wrong += [
        f"{name_of(path)}:{call.lineno} calls {ast.unparse(call.func)} at import: "
        "make it at first use"
        for path in FILES
        for node in parsed(path).body
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


SENDERS = ("core/operations", "core/postgres", "core/drift")


@pytest.mark.parametrize("folder", SENDERS)
def test_what_is_sent_to_a_server_is_in_every_encoding(folder: str) -> None:
    """A database may be of any: a text in our SQL that it lacks fails each revision that has it."""
    for path in sorted((ROOT / folder).glob("*.py")):
        told = {
            id(body[0].value)
            for node in nodes(path)
            if isinstance(body := getattr(node, "body", None), list)
            and body
            and isinstance(body[0], ast.Expr)
        }
        for node in nodes(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert id(node) in told or node.value.isascii(), f"{path.name}:{node.lineno}"
