"""Parameters: what is declared, and what was observed."""

from __future__ import annotations

import pytest

from core.aws.account import Aws
from core.model import Declared, Parameters, TargetSource
from tests.unit.aws.answers import STATE, STATE_TEXT, Stub, parameter


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], Parameters()),
        (
            [parameter("/day2/orders/target-revision", "003\n")],
            Parameters(Declared("003\n", TargetSource.PARAMETER, "/day2/orders/target-revision")),
        ),
        (
            [parameter("/day2/_fleet/target-revision", "head")],
            Parameters(Declared("head", TargetSource.FLEET, "/day2/_fleet/target-revision")),
        ),
        (
            [
                parameter("/day2/_fleet/target-revision", "head"),
                parameter("/day2/orders/target-revision", "003", "SecureString"),
                parameter("/day2/orders/observed-state", STATE_TEXT),
            ],
            Parameters(
                Declared(
                    "003", TargetSource.PARAMETER, "/day2/orders/target-revision", "SecureString"
                ),
                STATE,
            ),
        ),
    ],
)
def test_the_parameters_of_an_instance_are_one_call(
    found: list[dict[str, str]], expected: Parameters, aws: Aws, stub: Stub
) -> None:
    """The instance's own target goes before the fleet's; the state comes with it."""
    names = [
        "/day2/orders/target-revision",
        "/day2/_fleet/target-revision",
        "/day2/orders/observed-state",
    ]
    stub("ssm").add_response("get_parameters", {"Parameters": found}, {"Names": names})

    assert aws.parameters("orders") == expected


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "7", "{}", '{"at": 7}',
     STATE_TEXT.replace("2026", "MMXXVI")],
)  # fmt: skip
def test_a_state_that_somebody_else_wrote_is_no_state(text: str, aws: Aws, stub: Stub) -> None:
    """A state is a hint; one that cannot be read means that nothing is known."""
    entry = parameter("/day2/orders/observed-state", text)
    stub("ssm").add_response("get_parameters", {"Parameters": [entry]})

    assert aws.parameters("orders") == Parameters(has_strange_state=True)


def test_all_parameters_are_read_page_by_page(aws: Aws, stub: Stub) -> None:
    """Each instance under the prefix is told with its target, else the fleet's."""
    path = {"Path": "/day2/", "Recursive": True}
    pages = [
        [
            parameter("/day2/orders/target-revision", "003"),
            parameter("/day2/orders/observed-state", STATE_TEXT),
            parameter("/day2/orders/deeper/target-revision", "001"),
        ],
        [
            parameter("/day2/_fleet/target-revision", "002"),
            parameter("/day2/billing/observed-state", STATE_TEXT),
        ],
    ]
    stub("ssm").add_response(
        "get_parameters_by_path", {"Parameters": pages[0], "NextToken": "next"}, path
    )
    stub("ssm").add_response(
        "get_parameters_by_path", {"Parameters": pages[1]}, path | {"NextToken": "next"}
    )

    fleet = Declared("002", TargetSource.FLEET, "/day2/_fleet/target-revision")
    assert aws.all_parameters() == {
        "_fleet": Parameters(fleet),
        "billing": Parameters(fleet, STATE),
        "orders": Parameters(
            Declared("003", TargetSource.PARAMETER, "/day2/orders/target-revision"), STATE
        ),
    }


def test_a_state_is_written_as_it_is_read(aws: Aws, stub: Stub) -> None:
    """What is kept is the JSON that the next run understands."""
    stub("ssm").add_response(
        "put_parameter",
        {"Version": 1},
        {
            "Name": "/day2/orders/observed-state",
            "Type": "String",
            "Overwrite": True,
            "Value": STATE_TEXT,
        },
    )

    aws.write_observed("orders", STATE)
