"""
The template as CloudFormation reads it, for tests: parameters filled in, conditions decided.

SAM's own resources stay as they are written. A resource's attribute, which only a deployment knows,
becomes text such as ``Failures.Arn``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).with_name("template.yaml")

PSEUDO_PARAMETERS = {
    "AWS::AccountId": "000000000000",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "day2",
    "AWS::URLSuffix": "amazonaws.com",
}
_NOTHING = object()  # what AWS::NoValue leaves: no element, no key


class _Loader(yaml.CSafeLoader):
    """Reads CloudFormation's short forms (``!Ref x``) as the long ones (``{"Ref": "x"}``)."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    function = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        argument: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            argument = argument.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        argument = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        argument = loader.construct_mapping(node, deep=True)
    else:
        raise TypeError(f"{suffix} is not a scalar, a sequence or a mapping")
    return {function: argument}


_Loader.add_multi_constructor("!", _short_form)


@cache
def load(path: Path = PATH) -> dict[str, Any]:
    """Read the template as written, its short forms made long; it is one for all who ask."""
    template: dict[str, Any] = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  a SafeLoader
    return template


def resolve(parameters: Mapping[str, str] | None = None, path: Path = PATH) -> dict[str, Any]:
    """Return the resources that exist with *parameters*, pseudo parameters too, over defaults."""
    template = load(path)
    values: dict[str, Any] = dict(PSEUDO_PARAMETERS)
    given = parameters or {}
    values |= {name: given[name] for name in PSEUDO_PARAMETERS.keys() & given.keys()}
    for name, parameter in template["Parameters"].items():
        value = str(given.get(name, parameter.get("Default", name)))
        values[name] = value.split(",") if parameter["Type"] == "CommaDelimitedList" else value
    resolver = _Resolver(template, values)
    return {
        name: resolver.value(resource)
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or resolver.condition(resource["Condition"])
    }


class _Resolver:
    """Carries out the intrinsic functions that our template uses."""

    def __init__(self, template: Mapping[str, Any], values: dict[str, Any]) -> None:
        self.conditions = template["Conditions"]
        self.values = values

    def condition(self, name: str) -> bool:
        return bool(self.value(self.conditions[name]))

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for value in map(self.value, node) if value is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function in {"Ref", "Condition"} or function.startswith("Fn::"):
                return self._call(function, argument)
        resolved = {key: self.value(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not _NOTHING}

    def _call(self, function: str, argument: Any) -> Any:
        match function:
            case "Ref":
                nothing = argument == "AWS::NoValue"
                return _NOTHING if nothing else self.values.get(argument, argument)
            case "Condition":
                return self.condition(argument)
            case "Fn::GetAtt":
                attribute = ".".join(argument)
                return [f"Zone:{attribute}"] if argument[1] == "DnsEntries" else attribute
            case "Fn::Sub":
                text, more = argument if isinstance(argument, list) else (argument, {})
                values = self.values | self.value(more)
                return re.sub(r"\$\{([^}]+)\}", lambda found: _text(values, found[1]), text)
            case "Fn::If":
                name, then, otherwise = argument
                return self.value(then if self.condition(name) else otherwise)
        arguments = self.value(argument)
        match function:
            case "Fn::Equals":
                # All parameters are text.
                return str(arguments[0]) == str(arguments[1])
            case "Fn::Not":
                return not arguments[0]
            case "Fn::And":
                return all(arguments)
            case "Fn::Join":
                return arguments[0].join(arguments[1])
            case "Fn::Split":
                return arguments[1].split(arguments[0])
            case "Fn::Select":
                return arguments[1][int(arguments[0])]
        raise ValueError(f"the template uses {function}, which this module does not know yet")


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name, name)
    return ",".join(value) if isinstance(value, list) else str(value)
