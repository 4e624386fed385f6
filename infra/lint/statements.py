"""One statement, held against every rule, with what is known of those before it."""

# ruff: noqa: N802  pglast calls a visitor's methods by the names of its nodes

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pglast.enums import AlterTableType, ObjectType, ReindexObjectType, RoleSpecType
from pglast.visitors import Visitor
from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from core.operations.roles import VERIFIER_PLACEHOLDER
from infra.lint.memberships import MASTER, held_by_master, name_of
from infra.lint.table_locks import is_long
from infra.lint.text import masked

# A name with its schema has two parts.
_WITH_SCHEMA = 2
# What the master needs to enter, and to make roles.
_ENTERS_BY = {"canlogin", "connectionlimit", "validUntil", "createrole", "isreplication"}
# What operations.as_role runs a statement in.
_AS_ROLE = ("pg_temp", "day2_as_role")


@dataclass
class Known:
    """
    What the statements before have made and set, and what was found in them.

    Attributes:
        has_note: The revision says what going back does.
        masters: The tables that revisions made so far, as the master.
        is_another: They are run as another role, whose code may come back to the master.
        is_contained: They are those of operations.as_role, whose code may not.
        has_path: They have set a search path of their own.
        in_block: They are those of a PL/pgSQL block.
        temporary: The temporary tables that they made.
    """

    has_note: bool
    masters: set[tuple[str | None, str]] = field(default_factory=set)
    is_another: bool = False
    is_contained: bool = False
    has_path: bool = False
    has_path_outside: bool = False
    in_block: bool = False
    found: list[tuple[str, str]] = field(default_factory=list)
    made: set[tuple[str | None, str]] = field(default_factory=set)
    memberships: set[tuple[str, str]] = field(default_factory=set)
    temporary: set[str] = field(default_factory=set)


class Statement(Visitor):
    """One statement, looked at by every rule. A method's name is pglast's name of a node."""

    def __init__(
        self, known: Known, statement: str, *, common: set[str], read_block: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._known = known
        self._read_block = read_block
        self._text = statement
        self._common = common

    def _tell(self, rule: str) -> None:
        self._known.found.append((rule, self._text))

    def _is_there(self, table: Any) -> bool:
        return (table.schemaname, table.relname) not in self._known.made

    # Names

    def visit_VariableSetStmt(self, _path: Any, node: Any) -> None:
        if node.name == "search_path":
            self._known.has_path = True
        if node.name == "role":
            value = node.args[0].val.sval if node.args else "none"
            self._known.is_another = value != "none"

    def visit_FuncCall(self, _path: Any, node: Any) -> None:
        if node.funcname[-1].sval == "set_config" and "search_path" in self._text:
            self._known.has_path = True

    def visit_RangeVar(self, path: Any, node: Any) -> None:
        if node.relpersistence == "t":
            self._known.temporary.add(node.relname)
        if not self._is_known(str(path), node):
            self._tell_unqualified(())

    def _is_known(self, path: str, node: Any) -> bool:
        """Say whether a relation's name needs no schema, or has one."""
        return (
            node.schemaname is not None
            # PostgreSQL's own, which come first on any path.
            or node.relname.startswith("pg_")
            or node.relname in self._known.temporary | self._common
            # A variable of PL/pgSQL, what format completes, and what CREATE SCHEMA makes in it.
            or (self._known.in_block and ("intoClause" in path or node.relname == "name"))
            or "schemaElts" in path
        )

    def _tell_unqualified(self, name: Any) -> None:
        """Tell of *name*, in parts, unless it has a schema or the path is the revision's own."""
        if len(name) < _WITH_SCHEMA and not self._known.has_path:
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
            named = {name_of(one) for one in option.arg} if is_list else set()
            if option.defname == "addroleto":
                self._memberships(named, {node.role}, is_granted=True)
            elif option.defname in ("rolemembers", "adminmembers"):
                self._memberships({node.role}, named, is_granted=True)

    def visit_AlterRoleStmt(self, _path: Any, node: Any) -> None:
        self._password(node.options)
        changed = {option.defname for option in node.options or ()}
        if name_of(node.role) == MASTER and changed & _ENTERS_BY:
            self._tell("master-itself")

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
        self._known.found.append(("literal-password", masked(self._text)))

    # Who may do what

    def visit_GrantStmt(self, _path: Any, node: Any) -> None:
        to_public = any(one.roletype == RoleSpecType.ROLESPEC_PUBLIC for one in node.grantees or ())
        if node.is_grant and to_public:
            self._tell("grant-to-public")

    def visit_GrantRoleStmt(self, _path: Any, node: Any) -> None:
        roles = {one.priv_name for one in node.granted_roles}
        members = {name_of(one) for one in node.grantee_roles}
        off = [one.defname for one in node.opt or () if not getattr(one.arg, "boolval", True)]
        if node.is_grant and {"inherit", "set"} <= set(off):
            # With the ADMIN option alone: no membership that counts.
            return
        self._memberships(roles, members, is_granted=node.is_grant)

    def _memberships(self, roles: set[str], members: set[str], *, is_granted: bool) -> None:
        """Take note of who becomes a member of whom; tell where the master gets to rds_iam."""
        known = self._known.memberships
        pairs = {(member, role) for member in members for role in roles}
        before = "rds_iam" in held_by_master(known)
        self._known.memberships = known | pairs if is_granted else known - pairs
        if not before and "rds_iam" in held_by_master(self._known.memberships):
            self._tell("rds-iam-to-master")

    def visit_CreateFunctionStmt(self, _path: Any, node: Any) -> None:
        if _names(node.funcname) == _AS_ROLE:
            # It has no path of its own on purpose, and is there for one statement: read that.
            body = next(option.arg for option in node.options if option.defname == "as")
            # The block around it sets a path, and sets it back before.
            self._known.has_path = self._known.has_path_outside
            self._known.is_contained = True
            self._read_block(body[0].sval)
            self._known.is_contained = False
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
        self._made(node.relation)

    def visit_CreateTableAsStmt(self, _path: Any, node: Any) -> None:
        self._made(node.into.rel)

    def _made(self, table: Any) -> None:
        name = (table.schemaname, table.relname)
        self._known.made.add(name)
        if not (self._known.is_another or self._known.is_contained):
            self._known.masters.add(name)

    # Whose code it runs

    def visit_InsertStmt(self, _path: Any, node: Any) -> None:
        self._change(node.relation)

    def visit_UpdateStmt(self, _path: Any, node: Any) -> None:
        self._change(node.relation)

    def visit_DeleteStmt(self, _path: Any, node: Any) -> None:
        self._change(node.relation)

    def visit_MergeStmt(self, _path: Any, node: Any) -> None:
        self._change(node.relation)

    def _change(self, table: Any) -> None:
        """Tell where rows of a *table* are changed that is not known for the master's."""
        known = self._known
        is_ours = (table.schemaname, table.relname) in known.masters
        # A format's name is completed where it runs.
        is_told = (known.in_block and table.relname == "name") or not self._is_named(table)
        if not (is_ours or is_told or known.is_contained or table.relname in known.temporary):
            self._tell("others-code")

    def _is_named(self, table: Any) -> bool:
        """Say whether *table* is named whole: what lacks its schema is told of anyway."""
        return table.schemaname is not None or self._known.has_path

    def visit_RenameStmt(self, _path: Any, node: Any) -> None:
        if node.renameType == ObjectType.OBJECT_TABLE:
            self._moved(node.relation, (node.relation.schemaname, node.newname))

    def visit_AlterObjectSchemaStmt(self, _path: Any, node: Any) -> None:
        if node.objectType == ObjectType.OBJECT_TABLE:
            self._moved(node.relation, (node.newschema, node.relation.relname))

    def _moved(self, table: Any, now: tuple[str | None, str]) -> None:
        before = (table.schemaname, table.relname)
        if before in self._known.masters:
            self._known.masters.remove(before)
            self._known.masters.add(now)

    def visit_IndexStmt(self, _path: Any, node: Any) -> None:
        if not node.concurrent and self._is_there(node.relation):
            self._tell("blocking-index")

    def visit_ReindexStmt(self, _path: Any, node: Any) -> None:
        options = [option.defname for option in node.params or ()]
        if "concurrently" not in options or node.kind == ReindexObjectType.REINDEX_OBJECT_SYSTEM:
            self._tell("blocking-index")

    def visit_AlterTableStmt(self, _path: Any, node: Any) -> None:
        if self._is_there(node.relation) and any(map(is_long, node.cmds)):
            self._tell("long-lock")
        if any(one.subtype == AlterTableType.AT_DropColumn for one in node.cmds):
            self._drop()
        for one in node.cmds:
            if one.subtype == AlterTableType.AT_ChangeOwner and name_of(one.newowner) != MASTER:
                self._known.masters.discard((node.relation.schemaname, node.relation.relname))

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
        gone = {name_of(one) for one in node.roles}
        self._known.memberships = {pair for pair in self._known.memberships if not gone & set(pair)}

    def visit_DropOwnedStmt(self, _path: Any, node: Any) -> None:
        self._drop()
        self._owned(node)

    def visit_ReassignOwnedStmt(self, _path: Any, node: Any) -> None:
        self._owned(node)

    def _owned(self, node: Any) -> None:
        if MASTER in map(name_of, node.roles):
            self._tell("master-itself")

    def visit_DropdbStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def visit_TruncateStmt(self, _path: Any, _node: Any) -> None:
        self._drop()

    def _drop(self) -> None:
        # One note is enough for all that is dropped.
        is_told = any(rule == "drop-without-note" for rule, _ in self._known.found)
        if not (self._known.has_note or is_told):
            self._tell("drop-without-note")


def _names(parts: Any) -> tuple[str, ...]:
    """Return the name that *parts* are, schema first."""
    return tuple(part.sval for part in parts)


def common_names(tree: Any) -> set[str]:
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
