"""Which part of ALTER TABLE keeps everybody else from the table for long."""

# ruff: noqa: N802  pglast calls a visitor's methods by the names of its nodes

from __future__ import annotations

from typing import Any

from pglast.enums import AlterTableType, ConstrType
from pglast.visitors import Visitor

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


def is_long(command: Any) -> bool:
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


class _Calls(Visitor):
    """The functions that an expression calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def visit_FuncCall(self, _path: Any, node: Any) -> None:
        self.names.append(node.funcname[-1].sval)
