"""An AWS against botocore's own stubs: what is not expected is never asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from botocore.stub import Stubber

from core.aws.account import Aws
from core.aws.calls import SERVICES
from core.budget import Budget
from core.settings import Settings


@pytest.fixture(scope="session")
def shared() -> Aws:
    """Return the AWS of all these tests, as nobody in some region: its clients are slow to make."""
    aws = Aws(Settings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.delenv("AWS_PROFILE", raising=False)
        # All of them now: no other test is to find these variables.
        for service in SERVICES:
            aws._client(service)
    return aws


@pytest.fixture
def aws(shared: Aws) -> Aws:
    """Return the AWS under test, whose every call must be stubbed, and is tried once."""
    return shared.within(Budget.of(0))


@pytest.fixture
def stub(shared: Aws) -> Iterator[Callable[[str], Stubber]]:
    """Stub a service until the test ends, when all that was expected must have been asked."""
    with ExitStack() as stack:
        stubs: dict[str, Stubber] = {}

        def of(service: str) -> Stubber:
            if service not in stubs:
                stubs[service] = stack.enter_context(Stubber(shared._client(service)))
            return stubs[service]

        yield of
        for used in stubs.values():
            used.assert_no_pending_responses()
