"""
Read the SQL that each revision would run, and say what in it is dangerous on a live database.

    python -m infra.lint_migrations [ALEMBIC_INI]

The SQL of upgrade and downgrade is parsed with PostgreSQL's own parser (pglast), also inside DO
blocks and in what they EXECUTE. Not read: the bodies of functions, which a migration only makes.
A finding that is meant stays quiet by a comment in the function that causes it, with the reason:

    # lint: allow grant-to-public: every role may see the calendar
"""

# ruff: noqa: N802  pglast calls a visitor's methods by the names of its nodes

from __future__ import annotations

import ast
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pglast
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pglast.enums import (
    AlterTableType,
    ConstrType,
    ObjectType,
    ReindexObjectType,
    RoleSpecType,
)
from pglast.visitors import Visitor
from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from core.operations import VERIFIER_PLACEHOLDER
from core.settings import ROOT

# Every rule: why it is dangerous, and the better way.
RULES = {
    "literal-password": (
        "a password in a file is known to everybody who reads the repository or the server's log",
        "use operations.login, which keeps it in Secrets Manager",
    ),
    "grant-to-public": (
        "PUBLIC is every role that is, and every role that will be",
        "grant to a role made for it",
    ),
    "rds-iam-to-master": (
        "a member of rds_iam cannot log in with a password: it locks the master out",
        "use operations.login_by_iam for a login of its own",
    ),
    "security-definer": (
        "it runs as its owner and finds its names where the caller says",
        "add SET search_path = pg_catalog, pg_temp",
    ),
    "default-privileges": (
        "without FOR ROLE it is about what the master makes, and nobody else",
        "name the roles that make the objects, as operations.read_only does",
    ),
    "blocking-index": (
        "it stops every write to the table until it is done",
        "use operations.index, or CONCURRENTLY in an autocommit block",
    ),
    "long-lock": (
        "it rewrites or reads the whole table while nobody else may use it",
        "add the constraint NOT VALID and validate it in a later revision, or fill a new column",
    ),
    "drop-without-note": (
        "what is dropped does not come back by itself",
        "say in the revision's docstring what happens then: a paragraph that begins 'Going back'",
    ),
    "unreadable": (
        "what is put together at run time cannot be checked here",
        "write the statement out, or format it from one literal text",
    ),
    "useless-allowance": ("it allows nothing, and would hide a later finding", "remove it"),
}

_ALLOWANCE = re.compile(r"#\s*lint:\s*allow\s+([a-z-]+)\s*:\s*(\S.*)")
_MASTERS = ("postgres", "master", "rds_superuser")
_OURSELVES = (
    RoleSpecType.ROLESPEC_CURRENT_USER,
    RoleSpecType.ROLESPEC_CURRENT_ROLE,
    RoleSpecType.ROLESPEC_SESSION_USER,
)
# Every other function may give each row a value of its own, so the table is rewritten.
_STABLE = ("now", "current_timestamp", "transaction_timestamp", "statement_timestamp")
_SERIALS = ("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")
_REWRITES = (
    AlterTableType.AT_AlterColumnType,
    AlterTableType.AT_SetNotNull,
    AlterTableType.AT_SetLogged,
    AlterTableType.AT_SetUnLogged,
    AlterTableType.AT_SetTableSpace,
    AlterTableType.AT_SetAccessMethod,
    AlterTableType.AT_AddIdentity,
)
_FORMATS = {"%I": "name", "%s": "name", "%L": "'text'", "%%": "%"}


@dataclass(frozen=True, order=True)
class Finding:
    """One dangerous thing: in which revision and direction, by which rule, in which statement."""

    revision: str
    direction: str
    rule: str
    statement: str

    def __str__(self) -> str:
        reason, better = RULES[self.rule]
        return (
            f"{self.revision} {self.direction}: {self.rule}: {self.statement}\n"
            f"    {reason}: {better}"
        )


def lint(ini: Path = ROOT / "alembic.ini") -> list[Finding]:
    """Return what is found in the revisions of *ini*, oldest first."""
    scripts = ScriptDirectory.from_config(Config(str(ini)))
    found: list[Finding] = []
    for script in reversed(list(scripts.walk_revisions())):
        source = Path(script.path).read_text()
        has_note = "going back" in (script.module.__doc__ or "").lower()
        for direction in ("upgrade", "downgrade"):
            statements = emitted(getattr(script.module, direction))
            findings = {
                Finding(script.revision, direction, rule, statement)
                for rule, statement in _read(statements, has_note=has_note)
            }
            allowed = allowances(source, direction)
            found += sorted(one for one in findings if one.rule not in allowed)
            found += [
                Finding(script.revision, direction, "useless-allowance", rule)
                for rule in sorted(allowed - {one.rule for one in findings})
            ]
    return found


def emitted(operations: Callable[[], None]) -> str:
    """Return the SQL that *operations*, an upgrade or downgrade, would run."""
    written = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        # As in env.py: else SQLAlchemy doubles each percent sign.
        dialect_opts={"paramstyle": "named"},
        opts={"as_sql": True, "output_buffer": written, "literal_binds": True},
    )
    with Operations.context(context):
        operations()
    return written.getvalue()


def allowances(source: str, direction: str) -> set[str]:
    """Return the rules that comments in the function *direction* of *source* allow."""
    spans = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == direction
    ]
    return {
        found[1]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and (found := _ALLOWANCE.match(token.string))
        for first, last in spans
        if first <= token.start[0] <= last
    }


def _read(statements: str, *, has_note: bool) -> Iterator[tuple[str, str]]:
    """Yield each rule that *statements* break, with the statement that does."""
    reader = _Reader(has_note=has_note)
    reader.read(statements)
    yield from reader.found


@dataclass
class _Reader:
    """Reads statements in their order, and remembers the tables that they make."""

    has_note: bool
    found: list[tuple[str, str]] = field(default_factory=list)
    made: set[tuple[str | None, str]] = field(default_factory=set)

    def read(self, text: str) -> None:
        """Read the statements in *text*, and what is inside their DO blocks."""
        for raw in pglast.parse_sql(text):
            end = raw.stmt_location + raw.stmt_len if raw.stmt_len else None
            encoded = text.encode()[raw.stmt_location : end].decode()
            self._statement(raw.stmt, encoded)

    def _statement(self, tree: Any, text: str) -> None:
        if type(tree).__name__ == "DoStmt":
            self._block(next(one.arg.sval for one in tree.args if one.defname == "as"))
            return
        shown = _first_line(text)
        visitor = _Rules(self, shown)
        visitor(tree)

    def _block(self, body: str) -> None:
        """Read the statements of a PL/pgSQL block, and the texts that it executes."""
        wrapped = f"CREATE FUNCTION block() RETURNS void LANGUAGE plpgsql AS $lint${body}$lint$"
        for kind, text in _inside(pglast.parse_plpgsql(wrapped)):
            if kind == "PLpgSQL_stmt_execsql":
                self.read(text)
            else:
                self._executed(text)

    def _executed(self, expression: str) -> None:
        """Read what EXECUTE is given: one literal, which ``format`` may complete."""
        select = pglast.parse_sql(f"SELECT {expression}")[0].stmt
        value = select.targetList[0].val
        if type(value).__name__ == "FuncCall" and value.funcname[-1].sval == "format":
            value = value.args[0]
        text = getattr(getattr(value, "val", None), "sval", None)
        if text is None:
            self.found.append(("unreadable", f"EXECUTE {_first_line(expression)}"))
            return
        try:
            self.read(re.sub(r"%[IsL%]", lambda found: _FORMATS[found[0]], text))
        except pglast.parser.ParseError:
            self.found.append(("unreadable", f"EXECUTE {_first_line(expression)}"))


class _Rules(Visitor):  # type: ignore[misc]  # pglast has no types
    """One statement, looked at by every rule. A method's name is pglast's name of a node."""

    def __init__(self, reader: _Reader, statement: str) -> None:
        super().__init__()
        self._reader = reader
        self._text = statement

    def _tell(self, rule: str) -> None:
        self._reader.found.append((rule, self._text))

    def _is_there(self, table: Any) -> bool:
        return (table.schemaname, table.relname) not in self._reader.made

    # Passwords

    def visit_CreateRoleStmt(self, _path: Any, node: Any) -> None:
        self._password(node.options)

    def visit_AlterRoleStmt(self, _path: Any, node: Any) -> None:
        self._password(node.options)

    def visit_CreateUserMappingStmt(self, _path: Any, node: Any) -> None:
        self._password(node.options)

    def visit_AlterUserMappingStmt(self, _path: Any, node: Any) -> None:
        self._password(node.options)

    def visit_CreateSubscriptionStmt(self, _path: Any, node: Any) -> None:
        self._address(node.conninfo)

    def visit_AlterSubscriptionStmt(self, _path: Any, node: Any) -> None:
        self._address(node.conninfo or "")

    def _password(self, options: Any) -> None:
        for option in options or ():
            value = getattr(option.arg, "sval", None)
            if option.defname == "password" and value not in (None, VERIFIER_PLACEHOLDER):
                self._tell_password()

    def _address(self, address: str) -> None:
        try:
            has_password = "password" in parse_dsn(address)
        except ProgrammingError:
            has_password = True
        if has_password:
            self._tell_password()

    def _tell_password(self) -> None:
        # The linter's own report is read by everybody, too.
        self._reader.found.append(("literal-password", re.sub(r"'[^']*'?", "'…'", self._text)))

    # Who may do what

    def visit_GrantStmt(self, _path: Any, node: Any) -> None:
        to_public = any(one.roletype == RoleSpecType.ROLESPEC_PUBLIC for one in node.grantees or ())
        if node.is_grant and to_public:
            self._tell("grant-to-public")

    def visit_GrantRoleStmt(self, _path: Any, node: Any) -> None:
        granted = [one.priv_name for one in node.granted_roles]
        to_master = any(
            one.roletype in _OURSELVES or one.rolename in _MASTERS for one in node.grantee_roles
        )
        if node.is_grant and "rds_iam" in granted and to_master:
            self._tell("rds-iam-to-master")

    def visit_CreateFunctionStmt(self, _path: Any, node: Any) -> None:
        self._definer(node.options)

    def visit_AlterFunctionStmt(self, _path: Any, node: Any) -> None:
        self._definer(node.actions)

    def _definer(self, options: Any) -> None:
        is_definer = has_path = False
        for option in options or ():
            if option.defname == "security":
                is_definer = bool(option.arg.boolval)
            if option.defname == "set" and option.arg.name == "search_path":
                has_path = bool(option.arg.args)
        if is_definer and not has_path:
            self._tell("security-definer")

    def visit_AlterDefaultPrivilegesStmt(self, _path: Any, node: Any) -> None:
        if not any(option.defname == "roles" for option in node.options or ()):
            self._tell("default-privileges")

    # Locks

    def visit_CreateStmt(self, _path: Any, node: Any) -> None:
        self._reader.made.add((node.relation.schemaname, node.relation.relname))

    def visit_CreateTableAsStmt(self, _path: Any, node: Any) -> None:
        self._reader.made.add((node.into.rel.schemaname, node.into.rel.relname))

    def visit_IndexStmt(self, _path: Any, node: Any) -> None:
        if not node.concurrent and self._is_there(node.relation):
            self._tell("blocking-index")

    def visit_ReindexStmt(self, _path: Any, node: Any) -> None:
        options = [option.defname for option in node.params or ()]
        if "concurrently" not in options or node.kind == ReindexObjectType.REINDEX_OBJECT_SYSTEM:
            self._tell("blocking-index")

    def visit_AlterTableStmt(self, _path: Any, node: Any) -> None:
        if self._is_there(node.relation) and any(map(_is_long, node.cmds)):
            self._tell("long-lock")
        if any(one.subtype == AlterTableType.AT_DropColumn for one in node.cmds):
            self._drop()

    def visit_ClusterStmt(self, _path: Any, _node: Any) -> None:
        self._tell("long-lock")

    def visit_VacuumStmt(self, _path: Any, node: Any) -> None:
        if any(option.defname == "full" for option in node.options or ()):
            self._tell("long-lock")

    def visit_RefreshMatViewStmt(self, _path: Any, node: Any) -> None:
        if not node.concurrent:
            self._tell("long-lock")

    # What goes

    def visit_DropStmt(self, _path: Any, node: Any) -> None:
        if node.removeType == ObjectType.OBJECT_INDEX and not node.concurrent:
            self._tell("blocking-index")
        self._drop()

    def visit_DropRoleStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def visit_DropOwnedStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def visit_DropdbStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def visit_TruncateStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def _drop(self) -> None:
        if not self._reader.has_note:
            self._tell("drop-without-note")


def _is_long(command: Any) -> bool:
    """Say whether a part of ALTER TABLE rewrites or reads the whole table under its lock."""
    if command.subtype == AlterTableType.AT_AddColumn:
        column = command.def_
        kind = column.typeName.names[-1].sval
        return kind in _SERIALS or any(map(_is_filled, column.constraints or ()))
    if command.subtype == AlterTableType.AT_AddConstraint:
        constraint = command.def_
        if constraint.contype in (ConstrType.CONSTR_UNIQUE, ConstrType.CONSTR_PRIMARY):
            return constraint.indexname is None
        return not constraint.skip_validation
    return command.subtype in _REWRITES


def _is_filled(constraint: Any) -> bool:
    """Say whether *constraint* of a new column gives each row a value, or looks at each."""
    if constraint.contype == ConstrType.CONSTR_DEFAULT:
        calls = _Calls()
        calls(constraint.raw_expr)
        return any(name not in _STABLE for name in calls.names)
    return constraint.contype in (
        ConstrType.CONSTR_GENERATED,
        ConstrType.CONSTR_IDENTITY,
        ConstrType.CONSTR_UNIQUE,
        ConstrType.CONSTR_PRIMARY,
    )


class _Calls(Visitor):  # type: ignore[misc]  # pglast has no types
    """The functions that an expression calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def visit_FuncCall(self, _path: Any, node: Any) -> None:
        self.names.append(node.funcname[-1].sval)


def _inside(tree: Any) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of every statement in the JSON of a PL/pgSQL block."""
    if isinstance(tree, list):
        for part in tree:
            yield from _inside(part)
    elif isinstance(tree, dict):
        for kind, part in tree.items():
            if kind == "PLpgSQL_stmt_execsql":
                yield kind, part["sqlstmt"]["PLpgSQL_expr"]["query"]
            elif kind in ("PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors"):
                yield kind, part["query"]["PLpgSQL_expr"]["query"]
            yield from _inside(part)


def _first_line(text: str) -> str:
    """Return the first line of *text* that is no comment, short enough for a report."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("--")]
    return textwrap.shorten(" ".join(lines), 100, placeholder=" …")


def main(arguments: list[str]) -> int:
    """Print what is found; 1 if anything is."""
    found = lint(*map(Path, arguments))
    for finding in found:
        print(finding)
    print(f"{len(found)} finding(s)" if found else "the revisions are clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
