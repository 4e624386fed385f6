"""
Read the SQL that each revision would run, and say what in it is dangerous on a live database.

    python -m infra.lint_migrations

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pglast
from alembic.config import Config
from pglast.enums import (
    AlterTableType,
    ConstrType,
    ObjectType,
    ReindexObjectType,
    RoleSpecType,
)
from pglast.parser import ParseError
from pglast.visitors import Visitor
from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from core.errors import RunFailed
from core.operations.roles import VERIFIER_PLACEHOLDER
from core.revisions import rendering, scripts
from core.revisions.folder import EXAMPLES, Folder
from core.revisions.manifest import Revision
from core.revisions.sql_files import psql_commands
from core.settings import INI
from infra import migrations

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
        "what cannot be read here cannot be checked",
        "write it out in plain SQL, or check it by eye and allow it",
    ),
    "colon": (
        "no run carries it out",
        "write the colon as it says, or bind a value",
    ),
    "unqualified-name": (
        "schema public is not searched where somebody else may create in it",
        "write the schema before the name, or SET LOCAL search_path in the revision",
    ),
    "loose-file": (
        "a file that a revision reads by itself can change unnoticed once it is applied",
        "use operations.sql_file, which puts it into the checksum",
    ),
    "useless-allowance": ("it allows nothing, and would hide a later finding", "remove it"),
}

# An allowance would only hide what fails all the same.
NEVER_ALLOWED = {"colon"}

_ALLOWANCE = re.compile(r"#\s*lint:\s*allow\s+([a-z-]+)\s*:\s*(\S.*)")
# A name with its schema has two parts.
_WITH_SCHEMA = 2
_MASTERS = ("postgres", "master", "rds_superuser")
# What operations.as_role runs a statement in.
_AS_ROLE = ("pg_temp", "day2_as_role")
# All of them, in what is noted of memberships: no role has this name.
_MASTER = "the master"
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
_BETWEEN_STATEMENTS = re.compile(r";|\b(?:BEGIN|THEN|ELSE|LOOP)\b", re.IGNORECASE)
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


def lint(folder: Folder = EXAMPLES, ini: Path = INI) -> list[Finding]:
    """
    Return what is found in the revisions in *folder*, oldest first; *ini* has their settings.

    Raises:
        RunFailed: They cannot be listed.
    """
    is_declared = Config(str(ini)).get_main_option("revision_schema") is not None
    found: list[Finding] = []
    for revision in scripts.read(folder.versions):
        with tokenize.open(revision.file) as opened:
            source = opened.read()
        has_note = "going back" in (ast.get_docstring(ast.parse(source)) or "").lower()
        for direction in ("upgrade", "downgrade"):
            findings = {
                Finding(revision.identifier, direction, rule, statement)
                for rule, statement in (
                    *(
                        (rule, statement)
                        for rule, statement in _run(revision, direction, has_note=has_note)
                        if not (is_declared and rule == "unqualified-name")
                    ),
                    *_loose_files(revision, source, direction),
                )
            }
            allowed = allowances(source, direction) - NEVER_ALLOWED
            found += sorted(one for one in findings if one.rule not in allowed)
            found += [
                Finding(revision.identifier, direction, "useless-allowance", rule)
                for rule in sorted(allowed - {one.rule for one in findings})
            ]
    return found


def _run(revision: Revision, direction: str, *, has_note: bool) -> Iterator[tuple[str, str]]:
    """Yield each rule that what *revision* runs breaks, with the statement that does."""
    statements, paper = rendering.statements(revision, direction)
    yield from (("colon", one) for one in paper.refused)
    if not paper.refused:
        yield from (
            ("unreadable", one)
            for one in paper.partial.get(revision.identifier, [])
            # There is no way back, and the revision says so.
            if f"({NotImplementedError.__name__}:" not in one
        )
    reader = _Reader(has_note=has_note)
    for statement in statements:
        # What a helper's own block puts together is proven by the helper's tests.
        reader.is_ours = statement in paper.ours
        reader.read(statement)
    yield from reader.found


def _loose_files(revision: Revision, source: str, direction: str) -> Iterator[tuple[str, str]]:
    """Yield where the function *direction* reads a file by itself."""
    for function in _functions(source, direction):
        for node in ast.walk(function):
            match node:
                case ast.Call(
                    func=ast.Name(id="open")
                    | ast.Attribute(attr="open" | "read_text" | "read_bytes")
                ):
                    yield "loose-file", f"{revision.file.name}:{node.lineno}"


def _functions(source: str, name: str) -> list[ast.FunctionDef]:
    """Return the functions of *source* that are called *name*."""
    body = ast.parse(source).body
    return [one for one in body if isinstance(one, ast.FunctionDef) and one.name == name]


def allowances(source: str, direction: str) -> set[str]:
    """Return the rules that comments in the function *direction* of *source* allow."""
    spans = [
        (node.lineno, node.end_lineno or node.lineno) for node in _functions(source, direction)
    ]
    return {
        found[1]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and (found := _ALLOWANCE.match(token.string))
        for first, last in spans
        if first <= token.start[0] <= last
    }


@dataclass
class _Reader:
    """
    Reads statements in their order, and remembers the tables that they make.

    Attributes:
        is_ours: A helper of ``core.operations`` wrote the statement, and no author.
        has_path: They have set a search path of their own.
        in_block: They are those of a PL/pgSQL block.
        temporary: The temporary tables that they made.
    """

    has_note: bool
    has_path: bool = False
    has_path_outside: bool = False
    in_block: bool = False
    found: list[tuple[str, str]] = field(default_factory=list)
    made: set[tuple[str | None, str]] = field(default_factory=set)
    memberships: set[tuple[str, str]] = field(default_factory=set)
    is_ours: bool = False
    temporary: set[str] = field(default_factory=set)

    def read(self, text: str) -> None:
        """Read the statements in *text*, and what is inside their DO blocks."""
        try:
            parsed = pglast.parse_sql(text)
        except ParseError as error:
            self._pieces(text, error)
            return
        for raw in parsed:
            start = raw.stmt_location or 0
            end = start + raw.stmt_len if raw.stmt_len else None
            encoded = text.encode()[start:end].decode()
            self._statement(raw.stmt, encoded)

    def _pieces(self, text: str, error: ParseError) -> None:
        """Read of *text*, which the parser refuses as a whole, what can be read."""
        for start, end, command in psql_commands(text):
            self._tell_unread(f"\\{command}", "works in psql only: see operations.sql_file")
            text = text[:start] + " " * (end - start) + text[end:]
        try:
            pieces = pglast.split(text, with_parser=False)
        except ParseError:
            pieces = (text,)
        for piece in pieces:
            if piece.strip() == text.strip():
                self._tell_unread(piece, str(error.args[0]))
            else:
                self.read(piece)

    def _tell_unread(self, text: str, reason: str) -> None:
        self.found.append(("unreadable", f"{_masked(_first_line(text))} ({_masked(reason)})"))

    def _statement(self, tree: Any, text: str) -> None:
        if type(tree).__name__ == "DoStmt":
            self.block(next(one.arg.sval for one in tree.args if one.defname == "as"))
            return
        shown = _first_line(text)
        visitor = _Rules(self, shown, common=_common_names(tree))
        visitor(tree)

    def block(self, body: str) -> None:
        """Read the statements of a PL/pgSQL block, and the texts that it executes."""
        wrapped = f"CREATE FUNCTION block() RETURNS void LANGUAGE plpgsql AS $lint${body}$lint$"
        try:
            inside = list(_inside(pglast.parse_plpgsql(wrapped)))
        except (ParseError, ValueError) as error:
            self._tell_unread(f"DO {body}", str(error.args[0]))
            self._block_by_words(body)
            return
        before = self.has_path, self.in_block
        if not self.in_block:
            self.has_path_outside = self.has_path
        self.has_path, self.in_block = self.has_path or "search_path" in body, True
        for kind, text in inside:
            if kind == "PLpgSQL_stmt_execsql":
                self.read(text)
            else:
                self._executed(text)
        self.has_path, self.in_block = before

    def _block_by_words(self, body: str) -> None:
        """Read what is a statement by itself, of a block that the parser refuses."""
        for piece in _BETWEEN_STATEMENTS.split(body):
            try:
                parsed = pglast.parse_sql(piece)
            except ParseError:
                continue
            for raw in parsed:
                self._statement(raw.stmt, piece)

    def _executed(self, expression: str) -> None:
        """Read what EXECUTE is given: one literal, which ``format`` may complete."""
        try:
            select: Any = pglast.parse_sql(f"SELECT {expression}")[0].stmt
            value = select.targetList[0].val
            if type(value).__name__ == "FuncCall" and value.funcname[-1].sval == "format":
                value = value.args[0]
            text = value.val.sval
            pglast.parse_sql(text := re.sub(r"%[IsL%]", lambda found: _FORMATS[found[0]], text))
        except (AttributeError, ParseError):
            if self.is_ours:
                return
            self.found.append(("unreadable", f"EXECUTE {_masked(_first_line(expression))}"))
        else:
            self.read(text)


class _Rules(Visitor):
    """One statement, looked at by every rule. A method's name is pglast's name of a node."""

    def __init__(self, reader: _Reader, statement: str, *, common: set[str]) -> None:
        super().__init__()
        self._reader = reader
        self._text = statement
        self._common = common

    def _tell(self, rule: str) -> None:
        self._reader.found.append((rule, self._text))

    def _is_there(self, table: Any) -> bool:
        return (table.schemaname, table.relname) not in self._reader.made

    # Names

    def visit_VariableSetStmt(self, _path: Any, node: Any) -> None:
        if node.name == "search_path":
            self._reader.has_path = True

    def visit_FuncCall(self, _path: Any, node: Any) -> None:
        if node.funcname[-1].sval == "set_config" and "search_path" in self._text:
            self._reader.has_path = True

    def visit_RangeVar(self, path: Any, node: Any) -> None:
        if node.relpersistence == "t":
            self._reader.temporary.add(node.relname)
        if not self._is_known(str(path), node):
            self._tell_unqualified(())

    def _is_known(self, path: str, node: Any) -> bool:
        """Say whether a relation's name needs no schema, or has one."""
        return (
            node.schemaname is not None
            # PostgreSQL's own, which come first on any path.
            or node.relname.startswith("pg_")
            or node.relname in self._reader.temporary | self._common
            # A variable of PL/pgSQL, what format completes, and what CREATE SCHEMA makes in it.
            or (self._reader.in_block and ("intoClause" in path or node.relname == "name"))
            or "schemaElts" in path
        )

    def _tell_unqualified(self, name: Any) -> None:
        """Tell of *name*, in parts, unless it has a schema or the path is the revision's own."""
        if len(name) < _WITH_SCHEMA and not self._reader.has_path:
            self._tell("unqualified-name")

    def visit_CreateEnumStmt(self, _path: Any, node: Any) -> None:
        self._tell_unqualified(node.typeName)

    def visit_CreateRangeStmt(self, _path: Any, node: Any) -> None:
        self._tell_unqualified(node.typeName)

    def visit_CreateDomainStmt(self, _path: Any, node: Any) -> None:
        self._tell_unqualified(node.domainname)

    def visit_DefineStmt(self, _path: Any, node: Any) -> None:
        self._tell_unqualified(node.defnames)

    # Passwords

    def visit_CreateRoleStmt(self, _path: Any, node: Any) -> None:
        self._password(node.options)
        for option in node.options or ():
            is_list = isinstance(option.arg, tuple)
            named = {_member(one) for one in option.arg} if is_list else set()
            if option.defname == "addroleto":
                self._memberships(named, {node.role}, is_granted=True)
            elif option.defname in ("rolemembers", "adminmembers"):
                self._memberships({node.role}, named, is_granted=True)

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
        self._reader.found.append(("literal-password", _masked(self._text)))

    # Who may do what

    def visit_GrantStmt(self, _path: Any, node: Any) -> None:
        to_public = any(one.roletype == RoleSpecType.ROLESPEC_PUBLIC for one in node.grantees or ())
        if node.is_grant and to_public:
            self._tell("grant-to-public")

    def visit_GrantRoleStmt(self, _path: Any, node: Any) -> None:
        roles = {one.priv_name for one in node.granted_roles}
        members = {_member(one) for one in node.grantee_roles}
        off = [one.defname for one in node.opt or () if not getattr(one.arg, "boolval", True)]
        if node.is_grant and {"inherit", "set"} <= set(off):
            # With the ADMIN option alone: no membership that counts.
            return
        self._memberships(roles, members, is_granted=node.is_grant)

    def _memberships(self, roles: set[str], members: set[str], *, is_granted: bool) -> None:
        """Take note of who becomes a member of whom; tell where the master gets to rds_iam."""
        known = self._reader.memberships
        pairs = {(member, role) for member in members for role in roles}
        before = "rds_iam" in _held_by_master(known)
        self._reader.memberships = known | pairs if is_granted else known - pairs
        if not before and "rds_iam" in _held_by_master(self._reader.memberships):
            self._tell("rds-iam-to-master")

    def visit_CreateFunctionStmt(self, _path: Any, node: Any) -> None:
        if _names(node.funcname) == _AS_ROLE:
            # It has no path of its own on purpose, and is there for one statement: read that.
            body = next(option.arg for option in node.options if option.defname == "as")
            # The block around it sets a path, and sets it back before.
            self._reader.has_path = self._reader.has_path_outside
            self._reader.block(body[0].sval)
            return
        self._tell_unqualified(node.funcname)
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
        is_function = node.removeType == ObjectType.OBJECT_FUNCTION
        if is_function and [_names(one.objname) for one in node.objects] == [_AS_ROLE]:
            return
        self._drop()

    def visit_DropRoleStmt(self, _path: Any, node: Any) -> None:
        self._drop()
        gone = {_member(one) for one in node.roles}
        self._reader.memberships = {
            pair for pair in self._reader.memberships if not gone & set(pair)
        }

    def visit_DropOwnedStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def visit_DropdbStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def visit_TruncateStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def _drop(self) -> None:
        if not self._reader.has_note:
            self._tell("drop-without-note")


def _names(parts: Any) -> tuple[str, ...]:
    """Return the name that *parts* are, schema first."""
    return tuple(part.sval for part in parts)


def _member(role: Any) -> str:
    """Return the name of *role*, one for all names of the master's."""
    is_master = role.roletype in _OURSELVES or role.rolename in _MASTERS
    return _MASTER if is_master else str(role.rolename)


def _held_by_master(memberships: set[tuple[str, str]]) -> set[str]:
    """Return the roles that the master is a member of, however long the chain."""
    held = {_MASTER}
    while more := {role for member, role in memberships if member in held} - held:
        held |= more
    return held


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


def _common_names(tree: Any) -> set[str]:
    """Return the names that the WITH clauses in *tree* give."""
    found = _CommonNames()
    found(tree)
    return found.names


class _CommonNames(Visitor):
    """The names of common table expressions."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def visit_CommonTableExpr(self, _path: Any, node: Any) -> None:
        self.names.add(node.ctename)


class _Calls(Visitor):
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
    """Return the first line of *text* that is not a comment, short enough for a report."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("--")]
    return textwrap.shorten(" ".join(lines), 100, placeholder=" …")


def _masked(text: str) -> str:
    """Return *text* without its literals: the linter's own report is read by everybody, too."""
    return re.sub(r"'[^']*'?", "'…'", text)


def main() -> int:
    """Print what is found; 1 if anything is."""
    try:
        found = lint(migrations.chosen())
    except RunFailed as error:
        print(error)
        return 1
    for finding in found:
        print(finding)
    print(f"{len(found)} finding(s)" if found else "the revisions are clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
