"""Patience: what is busy is asked again, for as long as there is time."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from core.aws.account import Aws
from core.errors import NotReady, OutOfReach
from tests.unit.aws.answers import DB_INSTANCE, STATE, Stub, patient

BUSY = [("ThrottlingException", 400), ("InternalServiceError", 500), ("NobodyKnows", 502)]


@pytest.mark.parametrize(("code", "status"), BUSY)
def test_what_is_busy_is_asked_again(code: str, status: int, aws: Aws, stub: Stub) -> None:
    """A fleet's runs end together, and Parameter Store takes three writes a second."""
    pauses: list[float] = []
    for _ in range(6):
        stub("ssm").add_client_error("put_parameter", code, "", status)
    stub("ssm").add_response("put_parameter", {})

    aws.within(patient(pauses)).write_observed("orders", STATE)

    assert len(pauses) == 6


def test_patience_ends_with_the_budget(aws: Aws, stub: Stub) -> None:
    """A run is not killed over a call that would have been asked for ever."""
    pauses: list[float] = []
    for _ in range(100):
        stub("ssm").add_client_error("put_parameter", "ThrottlingException")

    with pytest.raises(NotReady):
        aws.within(patient(pauses, seconds=60)).write_observed("orders", STATE)

    assert 50 < sum(pauses) <= 60
    # What is left over was never asked for.
    vars(stub("ssm"))["_queue"].clear()


def test_what_is_out_of_reach_is_told_within_a_minute(aws: Aws) -> None:
    """A network that leads nowhere is not mended by waiting for as long as a function may run."""
    pauses: list[float] = []
    limited = aws.within(patient(pauses, seconds=900))

    def nothing() -> None:
        raise EndpointConnectionError(endpoint_url="https://rds.us-east-1.amazonaws.com")

    with pytest.raises(OutOfReach):
        limited._call("rds:DescribeDBInstances", "all instances", nothing)

    # Each try may take three seconds more.
    assert len(pauses) == 9
    assert sum(pauses) < 30


def test_a_page_that_is_busy_is_asked_again_alone(aws: Aws, stub: Stub) -> None:
    """Who reads a large fleet does not begin anew."""
    rds = stub("rds")
    rds.add_response("describe_db_instances", {"DBInstances": [], "Marker": "2"}, {})
    rds.add_client_error("describe_db_instances", "Throttling")
    rds.add_response("describe_db_instances", {"DBInstances": [DB_INSTANCE]}, {"Marker": "2"})

    found = list(aws.within(patient([])).instances())

    assert [one.identifier for one in found] == ["orders"]


def test_a_secret_is_made_once_however_often_it_is_asked_for(aws: Aws, stub: Stub) -> None:
    """Where only the answer was lost, the same token finds it done."""
    tokens: list[str] = []

    class Client:
        def create_secret(self, **fields: Any) -> dict[str, Any]:
            tokens.append(fields["ClientRequestToken"])
            if len(tokens) == 1:
                raise ClientError({"Error": {"Code": "InternalServiceError"}}, "CreateSecret")
            return {}

    assert stub
    limited = aws.within(patient([]))
    limited._clients = {"secretsmanager": Client()}
    limited.create_secret("day2/orders/app_user", "{}", description="a login", tags={})

    assert len(tokens) == 2
    assert len(set(tokens)) == 1
