"""The stack's parameters as a command is given them: ``"AllowRollback=true SweepMinutes=30"``."""

import difflib
import re
import shlex
from collections.abc import Mapping
from typing import Any

from infra.commands import WrongUseError
from infra.story import printable


class ParametersError(WrongUseError):
    """They are not what the template takes; the message is one line and says what it takes."""


def read(text: str, declared: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """
    Return the values in *text* by name; *declared* are the template's own ``Parameters``.

    What CloudFormation would refuse is refused here: LocalStack takes any value.

    Raises:
        ParametersError: A word is not ``Name=value``, or the template does not take it.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ParametersError(f"PARAMETERS={printable(text)} cannot be read: {error}") from None
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ParametersError(f'{word!r} is not Name=value: make up PARAMETERS="Name=value …"')
        if name not in declared:
            like = difflib.get_close_matches(name, declared, n=1, cutoff=0.5)
            hint = f"did you mean {like[0]}?" if like else "infra/OPERATIONS.md lists them"
            raise ParametersError(f"the template has no parameter {name!r}: {hint}")
        if name in values:
            raise ParametersError(f"{name} is given twice")
        if problem := _problem(value, declared[name]):
            raise ParametersError(f"{name}={printable(value)}: {problem}")
        values[name] = value
    return values


def _problem(value: str, rules: Mapping[str, Any]) -> str | None:
    """
    Return what the *rules* of a parameter have against *value*, else None.

    CloudFormation User Guide, "CloudFormation template Parameters syntax".
    """
    allowed = [value_text(one) for one in rules.get("AllowedValues", ())]
    if allowed and value not in allowed:
        return f"give one of {', '.join(map(repr, allowed))}"
    if rules["Type"] == "Number":
        if not re.fullmatch(r"-?\d+(\.\d+)?", value):
            return "give a number"
        least, most = rules.get("MinValue"), rules.get("MaxValue")
        if (least is not None and float(value) < least) or (
            most is not None and float(value) > most
        ):
            return f"give a number from {least} to {most}"
    if (pattern := rules.get("AllowedPattern")) and not re.fullmatch(pattern, value):
        return str(rules.get("ConstraintDescription") or f"it does not match {pattern}")
    least, most = rules.get("MinLength", 0), rules.get("MaxLength", 4_096)
    if not least <= len(value) <= most:
        return f"give {least} to {most} characters"
    return None


def value_text(value: object) -> str:
    """Return a value of the template as CloudFormation takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
