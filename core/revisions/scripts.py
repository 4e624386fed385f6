"""
A build as its scripts say it: they are read, and one runs only where it is carried out.

A script may do anything as it is loaded, such as ask the database that it is for. So what it
says of itself (``revision``, ``down_revision``, its docstring) is read from its text; only where
that is put together by code is the script loaded to be listed.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tokenize
import traceback
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from core.decisions.target import identifier_problem
from core.errors import RunFailed
from core.revisions.history import checksum
from core.revisions.manifest import Revision, is_script
from core.revisions.sql_files import SqlFileError, find
from core.revisions.sql_files import read as read_sql

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

# What Alembic asks of a script, by the names that it has there.
_SAID = ("revision", "down_revision", "branch_labels", "depends_on")

_SAID_BY_LINE = re.compile(rb"^(revision|down_revision)\b[^=\n]*=", re.MULTILINE)

_UNREAD = (
    "operations.sql_file takes the name of the file in plain text: the file belongs to the "
    "checksum of the revision"
)

Step = Callable[[Revision, str], None]


class _Script(NamedTuple):
    """One file, and what it says of itself, as it says it."""

    file: Path
    said: Mapping[str, Any]
    doc: str
    sql_files: tuple[Path, ...]

    @property
    def identifier(self) -> Any:
        return self.said["revision"]

    @property
    def down(self) -> Any:
        """What it stands on: Alembic takes a list of one for that one."""
        down = self.said.get("down_revision")
        if isinstance(down, list | tuple) and len(down) < 2:
            return down[0] if down else None
        return down


def read(folder: Path) -> tuple[Revision, ...]:
    """
    Return the revisions in *folder*, oldest first: one line from one base to one head.

    Raises:
        RunFailed: They are not such a line, or one of them cannot be read or recorded. The
            error names the files.
    """
    if not folder.is_dir():
        raise _broken(f"there is no folder {folder}", "make it, or correct script_location")
    scripts = [_read(file) for file in sorted(folder.iterdir()) if is_script(file.name)]
    _check_no_deeper(folder)
    _check_identifiers(scripts)
    return tuple(
        Revision(
            script.identifier,
            re.split("\n\n", script.doc.strip())[0],
            script.file,
            checksum(script.file, *script.sql_files),
            script.sql_files,
        )
        for script in _in_line(scripts)
    )


def load(revision: Revision) -> Any:
    """
    Run the script of *revision*, and return the module that it makes.

    It can import what lies beside ``versions/``, unless something of ours or of a library has
    the same name.
    """
    beside = str(revision.file.parent.parent)
    if beside not in sys.path:
        sys.path.append(beside)
    # As Alembic names it: a dot in the file's name is none in the module's.
    name = re.sub(r"\W", "_", revision.file.name)
    spec = importlib.util.spec_from_file_location(name, revision.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{revision.file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Where a dataclass looks for the module of its own, and pickle.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def carry_out(revision: Revision, direction: str) -> None:
    """
    Load the script of *revision* and call its ``upgrade`` or ``downgrade``.

    Raises:
        RunFailed: It has no such function, or what that returned would have to be run, too.
    """
    step = getattr(load(revision), direction, None)
    name = revision.file.name
    if not callable(step):
        raise RunFailed(
            f"{name} has no function {direction}(): write it; where there is no way "
            "back, let it raise NotImplementedError"
            if direction == "downgrade"
            else f"{name} has no function {direction}(): write it"
        )
    left = step()
    # Of async def, yield and a decorator that forgets to call: nothing of the body ran.
    if isinstance(left, Awaitable | AsyncIterator | Generator) or callable(left):
        if isinstance(left, Coroutine | Generator):
            left.close()
        raise RunFailed(
            f"{direction}() of {name} returned a {type(left).__name__} that nobody runs, so its "
            f"work was not done: write a plain def {direction}(), without async and yield"
        )


def lay(directory: ScriptDirectory, build: Sequence[Revision], step: Step = carry_out) -> None:
    """
    Have Alembic's *directory* know *build*, and call *step* to carry out one of it.

    Alembic itself would load every script to know one.
    """
    from alembic.script import Script
    from alembic.script.revision import RevisionMap

    def scripts() -> Iterator[Script]:
        below: str | None = None
        for one in build:
            yield Script(_unloaded(one, below, step), one.identifier, str(one.file))  # type: ignore[arg-type]
            below = one.identifier

    directory.revision_map = RevisionMap(scripts)


def _unloaded(revision: Revision, below: str | None, step: Step) -> SimpleNamespace:
    """Return what stands for the module of *revision* until it is carried out."""

    # Alembic tells the direction by the function's name.
    def upgrade(**_: object) -> None:
        step(revision, "upgrade")

    def downgrade(**_: object) -> None:
        step(revision, "downgrade")

    return SimpleNamespace(
        __doc__=revision.description,
        revision=revision.identifier,
        down_revision=below,
        upgrade=upgrade,
        downgrade=downgrade,
    )


def sql_file(name: str) -> Path:
    """
    Return the file of SQL that the calling script names.

    Raises:
        SqlFileError: The script does not name it in plain text, or it cannot be run.
    """
    found = calling()
    if found is None:
        raise SqlFileError("only a revision can run a file of SQL")
    script = found[0]
    file = find(script, name)
    with tokenize.open(script) as opened:
        if file not in _sql_files(ast.parse(opened.read()), script):
            raise SqlFileError(_UNREAD)
    return file


def _sql_files(tree: ast.Module, script: Path) -> tuple[Path, ...]:
    """Return the files that *tree* has ``operations.sql_file`` run, each checked."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "core.operations"
        for alias in node.names
        if alias.name == "sql_file"
    }
    files: dict[Path, None] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="sql_file")):
                pass
            case ast.Call(func=ast.Name(id=called)) if called in names:
                pass
            case _:
                continue
        try:
            match [*node.args, *(one.value for one in node.keywords)]:
                case [ast.Constant(value=str(name))]:
                    file = find(script, name)
                case _:
                    raise SqlFileError(_UNREAD)
            read_sql(file)
        except SqlFileError as error:
            raise _broken(f"{script.name}:{node.lineno}: {error}") from error
        files[file] = None
    return tuple(sorted(files))


def line_of(error: BaseException, file: Path) -> str:
    """Return the name of *file*, with its line that *error* came from if there is one."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file) and frame.lineno
    ]
    if isinstance(error, SyntaxError) and error.lineno and error.filename in (str(file), None):
        lines.append(error.lineno)
    return f"{file.name}:{lines[-1]}" if lines else file.name


def where() -> str:
    """Return the name of the calling script with its line; nothing where none calls."""
    found = calling()
    return f"{found[0].name}:{found[1]}" if found else ""


def calling() -> tuple[Path, int] | None:
    """Return the file and the line of the script whose code has called, if any has."""
    frame = sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads every file on the way
    while frame is not None:
        if "down_revision" in frame.f_globals and "__file__" in frame.f_globals:
            return Path(frame.f_globals["__file__"]), frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _read(file: Path) -> _Script:
    """Read *file*; load it only where it cannot be read."""
    try:
        # As Python reads it: by its byte order mark or its coding line.
        with tokenize.open(file) as opened:
            text = opened.read()
    except FileNotFoundError as error:
        raise _broken(f"{file.name} is a link to nothing", "bring back what it names") from error
    except (SyntaxError, UnicodeDecodeError) as error:
        raise _broken(
            f"{file.name} is not in UTF-8, or in the encoding that it names", "save it so"
        ) from error
    except OSError as error:
        raise _broken(f"{file.name} cannot be read: {error.strerror}") from error
    try:
        tree = ast.parse(text, str(file))
        sql_files = _sql_files(tree, file)
        said = _literals(tree)
        doc = ast.get_docstring(tree, clean=False) or ""
        if said is None:
            module = load(Revision("", "", file, ""))
            said = {name: getattr(module, name) for name in _SAID if hasattr(module, name)}
            doc = module.__doc__ or ""
    except (Exception, SystemExit) as error:
        # A script that is run may raise anything at all.
        lines = str(error.msg if isinstance(error, SyntaxError) else error).splitlines() or [""]
        if isinstance(error, RunFailed):
            raise
        raise _broken(
            f"{line_of(error, file)}: {type(error).__name__}: {lines[0]}", "correct it"
        ) from error
    if "revision" not in said:
        raise _broken(
            f"{file.name} does not name its revision",
            "give it one, or move the file out of versions/",
        )
    return _Script(file, said, doc, sql_files)


def _literals(tree: ast.Module) -> dict[str, Any] | None:
    """Return what the script *tree* says of itself in plain values; ``None`` if code says it."""
    found: dict[str, Any] = {}
    plain = 0
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if name in _SAID:
                try:
                    found[name] = ast.literal_eval(value)
                except ValueError:
                    return None
                plain += 1
    bound = Counter(_bound(tree))
    is_plain = plain == sum(bound[name] for name in _SAID) and not bound["*"] + bound["__doc__"]
    return found if is_plain else None


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield each name that *node* binds in its own scope, as often as it does."""
    for child in ast.iter_child_nodes(node):
        match child:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield name
                continue
            case ast.Lambda():
                continue
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.alias(name=name, asname=asname):
                yield asname or name
        yield from _bound(child)


def _check_no_deeper(folder: Path) -> None:
    """Refuse a revision in a folder below: it would never be applied, and nobody would know."""
    for file in sorted(folder.glob("*/**/*.py")):
        name = file.relative_to(folder)
        if any(part.startswith((".", "__")) for part in name.parts) or not file.is_file():
            continue
        said = set(_SAID_BY_LINE.findall(file.read_bytes()))
        if {b"revision", b"down_revision"} <= said:
            raise _broken(
                f"{name} is a revision in a folder of its own, where none is looked for",
                f"move it to {folder.name}/ itself",
            )


def _check_identifiers(scripts: Sequence[_Script]) -> None:
    """Refuse identifiers that Alembic, the history or a target could not hold, and double ones."""
    for script in scripts:
        problem = identifier_problem(script.identifier)
        if problem:
            raise _broken(f"revision {script.identifier!r} ({script.file.name}) {problem}")
    files: dict[str, list[str]] = {}
    for script in scripts:
        files.setdefault(script.identifier, []).append(script.file.name)
    for identifier, names in files.items():
        if len(names) > 1:
            raise _broken(
                f"revision {identifier} is in several files ({', '.join(names)})",
                "give each an identifier of its own, one behind the other by its down_revision",
            )


def _in_line(scripts: Sequence[_Script]) -> list[_Script]:
    """Return *scripts*, oldest first, if each stands on the one before it."""
    known = {script.identifier: script for script in scripts}
    above: dict[str | None, list[_Script]] = {}
    for script in scripts:
        if not isinstance(script.down, str | None) or script.said.get("depends_on"):
            raise _broken(
                f"revision {script.identifier} ({script.file.name}) merges or depends on others",
                "give it one down_revision",
            )
        if script.down is not None and script.down not in known:
            raise _broken(
                f"revision {script.identifier} ({script.file.name}) follows "
                f"{script.down!r}, which no file defines",
                "correct its down_revision, or bring the file back",
            )
        above.setdefault(script.down, []).append(script)
    heads = sorted(one for one in known if one not in above)
    if len(heads) > 1:
        names = ", ".join(f"{one} in {known[one].file.name}" for one in heads)
        raise _broken(f"there are several heads ({names})", "chain them by down_revision")
    line: list[_Script] = []
    while following := above.get(line[-1].identifier if line else None):
        line += following
    if len(line) < len(scripts):
        names = ", ".join(one.file.name for one in scripts if one not in line)
        raise _broken(
            f"the down_revisions form a circle ({names})", "give the first down_revision = None"
        )
    return line


def _broken(problem: str, remedy: str = "") -> RunFailed:
    """Return the error of a build with *problem*."""
    remedy = f": {remedy}" if remedy else ""
    return RunFailed(
        f"the revisions of this build cannot be loaded: {problem}{remedy}; nothing was touched"
    )
