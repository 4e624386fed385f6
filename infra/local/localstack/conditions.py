"""Conditions of a template kept apart, where a stack is updated."""

from typing import Any

from localstack.services.cloudformation.engine.v2.change_set_model import ChangeSetModel


def keep_them_apart() -> None:
    """
    Have LocalStack look at each condition that a template asks for, and not at its first.

    Whoever asks for one passes on where all of them are, and what was found there is kept by that.
    So with a parameter of one condition changed, all that any condition decides would be changed:
    the function's name too, and LocalStack would make that function beside itself.
    """
    visit = ChangeSetModel._visit_condition  # noqa: SLF001 - there is no other door

    def visit_its_own(self: Any, scope: Any, condition_name: str, **conditions: Any) -> Any:
        if not scope.endswith(f"/{condition_name}"):
            scope = scope.open_scope(condition_name)
        return visit(self, scope, condition_name, **conditions)

    ChangeSetModel._visit_condition = visit_its_own  # noqa: SLF001
