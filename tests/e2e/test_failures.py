"""What fails on an event is raised, tried again, and kept whole in the on-failure queue."""

from __future__ import annotations

from tests.e2e.account import Account


def test_unknown_revision_is_kept_with_its_event(account: Account) -> None:
    """Three tries, one message; the corrected parameter then moves the instance."""
    name = "mistyped"
    account.create_at(name, "001")
    parameter = account.target_parameter(name)

    account.client("ssm").put_parameter(Name=parameter, Value="0002", Overwrite=True)
    event = account.changed(parameter)
    failure = account.next_failure()

    assert failure["requestPayload"] == event
    assert failure["requestContext"]["condition"] == "RetriesExhausted"
    assert failure["requestContext"]["approximateInvokeCount"] == 3
    assert failure["requestContext"]["functionArn"].startswith(account.outputs["FunctionArn"])
    assert failure["responseContext"]["functionError"] == "Unhandled"
    assert failure["responsePayload"]["errorType"] == "UnknownRevision"
    assert "'0002'" in failure["responsePayload"]["errorMessage"]
    result = account.result(name, request_id=event["id"])
    assert (result["outcome"], result["applied_migrations"]) == ("REJECTED", [])
    assert account.failures() == 0

    account.declare(name, "002")

    assert account.result(name, outcome="APPLIED")["applied_migrations"] == ["002"]
    account.remove(name)
