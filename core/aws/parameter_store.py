"""Parameter Store: the declared targets, and the state that was observed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from core.aws.calls import Calls
from core.decisions import observed
from core.model import FLEET, Declared, ObservedState, Parameters, TargetSource
from core.settings import observed_parameter, target_parameter

logger = logging.getLogger(__name__)


class ParameterStore(Calls):
    """The parameters under the stack's prefix."""

    def parameters(self, instance: str) -> Parameters:
        """Read the declared target (the instance's, else the fleet's) and the observed state."""
        own = target_parameter(self._prefix, instance)
        fleet = target_parameter(self._prefix, FLEET)
        state = observed_parameter(self._prefix, instance)
        found = self._call(
            "ssm:GetParameters",
            f"{own}, {fleet}, {state}",
            lambda: self._client("ssm").get_parameters(Names=[own, fleet, state]),
        )
        values = {entry["Name"]: entry for entry in found["Parameters"]}
        return _parameters(_declared(values, own, fleet), values.get(state))

    def all_parameters(self) -> dict[str, Parameters]:
        """
        Read the parameters of every instance under the prefix, and the fleet's as ``_fleet``.

        An instance without any parameter is not in the answer, and follows the fleet.
        """
        values: dict[str, dict[str, Any]] = {}
        path = f"/{self._prefix}/"
        for page in self._pages(
            "ssm:GetParametersByPath",
            path,
            lambda **more: self._client("ssm").get_parameters_by_path(
                Path=path, Recursive=True, **more
            ),
            ("NextToken", "NextToken"),
        ):
            values.update({entry["Name"]: entry for entry in page["Parameters"]})
        names = {name.split("/")[2] for name in values if name.count("/") == 3} | {FLEET}
        fleet = target_parameter(self._prefix, FLEET)
        return {
            name: _parameters(
                _declared(values, target_parameter(self._prefix, name), fleet),
                values.get(observed_parameter(self._prefix, name)),
            )
            for name in names
        }

    def write_observed(self, instance: str, state: ObservedState) -> None:
        """Keep *state* in the instance's parameter."""
        name = observed_parameter(self._prefix, instance)
        self._call(
            "ssm:PutParameter",
            name,
            lambda: self._client("ssm").put_parameter(
                Name=name, Type="String", Overwrite=True, Value=observed.written(state)
            ),
        )


def _declared(values: Mapping[str, Mapping[str, Any]], own: str, fleet: str) -> Declared | None:
    """Return the declared target: the instance's own parameter, else the fleet's."""
    for name in (own, fleet):
        if name in values:
            source = TargetSource.FLEET if name == fleet else TargetSource.PARAMETER
            entry = values[name]
            return Declared(
                entry["Value"], source, name, entry["Type"], entry.get("LastModifiedDate")
            )
    return None


def _parameters(declared: Declared | None, state: Mapping[str, Any] | None) -> Parameters:
    """Return *declared* and the observed *state*, whatever somebody wrote there."""
    if state is None:
        return Parameters(declared)
    found = observed.read(state["Value"])
    if found is None:
        logger.warning("%s does not hold an observed state of ours: ignored", state["Name"])
    return Parameters(declared, found, has_strange_state=found is None)
