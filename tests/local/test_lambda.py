"""Functions run as local processes, and behave as on Lambda."""

import concurrent.futures
import os
import signal
import time
from collections.abc import Callable

from tests.equipment.local_aws import LocalFunction

MakeFunction = Callable[..., LocalFunction]


def test_response_and_whole_log_of_the_call_come_back(make_function: MakeFunction) -> None:
    """However much a function prints, all of it is there, and nothing of another call."""
    function = make_function(
        """
def handler(event, context):
    for number in range(3_000):
        print(event["call"], number, "." * 40)
    return {"said": event["call"], "by": context.function_name}
"""
    )

    for name in ("first", "second"):
        call = function.invoke({"call": name})

        assert call.response == {"said": name, "by": function.name}
        lines = call.log.splitlines()
        assert lines[0] == f"START RequestId: {call.request_id} Version: $LATEST"
        assert lines[1:-2] == [f"{name} {number} {'.' * 40}" for number in range(3_000)]
        assert lines[-2] == f"END RequestId: {call.request_id}"


def test_exception_is_a_function_error(make_function: MakeFunction) -> None:
    """As on Lambda: type and message in the response, the traceback in the log."""
    function = make_function("def handler(event, context): raise ValueError('no such thing')")

    call = function.invoke({})

    assert call.function_error == "Unhandled"
    assert call.response["errorType"] == "ValueError"
    assert call.response["errorMessage"] == "no such thing"
    assert "ValueError: no such thing" in call.log
    assert not call.succeeded


def test_process_that_exits_is_replaced(make_function: MakeFunction) -> None:
    """The call that it took with it fails with its log; the next finds a new process."""
    function = make_function(
        """
import os
def handler(event, context):
    print("about to", event)
    if event == "exit":
        os._exit(3)
    return os.getpid()
"""
    )
    first = function.invoke("stay").response

    died = function.invoke("exit")
    begin = time.monotonic()
    second = function.invoke("stay")

    assert died.function_error == "Unhandled"
    assert died.response == {
        "errorType": "Runtime.ExitError",
        "errorMessage": "Runtime exited with error: exit status 3",
    }
    assert "about to exit" in died.log
    assert second.response not in (None, first)
    # Its timeout: nobody waited for it.
    assert time.monotonic() - begin < 10


def test_process_killed_between_calls_is_replaced(make_function: MakeFunction) -> None:
    """Nobody notices, but that the process is another."""
    function = make_function("import os\ndef handler(event, context): return os.getpid()")
    first = function.invoke().response

    os.kill(first, signal.SIGKILL)
    second = function.invoke()

    assert second.function_error is None
    assert second.response != first


def test_call_ends_at_the_functions_timeout(make_function: MakeFunction) -> None:
    """The process is killed, the log so far is kept, and the next call is served."""
    function = make_function(
        """
import os, time
def handler(event, context):
    print("left", context.get_remaining_time_in_millis() <= 1000, os.getpid(), flush=True)
    time.sleep(event)
    return os.getpid()
""",
        timeout_seconds=1,
    )

    begin = time.monotonic()
    call = function.invoke(30)
    seconds = time.monotonic() - begin

    assert call.response["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in call.response["errorMessage"]
    assert "Task timed out after 1.00 seconds" in call.log
    assert "left True" in call.log
    # Of a busy machine; it was asked to sleep for 30.
    assert seconds < 25
    assert function.invoke(0).function_error is None


def test_calls_at_the_same_time_have_a_process_each(make_function: MakeFunction) -> None:
    """So they run side by side."""
    function = make_function(
        """
import os, time
def handler(event, context):
    time.sleep(1)
    return os.getpid()
"""
    )

    with concurrent.futures.ThreadPoolExecutor(3) as callers:
        pids = [call.response for call in callers.map(function.invoke, range(3))]

    assert len(set(pids)) == 3


def test_error_at_import_is_answered_each_time(make_function: MakeFunction) -> None:
    """A module that cannot be imported says so, in every call."""
    function = make_function("import nowhere_to_be_found")

    for _ in range(2):
        call = function.invoke()

        assert call.response["errorType"] == "Runtime.ImportModuleError"
        assert "nowhere_to_be_found" in call.response["errorMessage"]


def test_function_comes_before_its_layers_and_they_before_the_runtime(
    make_function: MakeFunction,
) -> None:
    """The order of Lambda's own search path."""
    function = make_function(
        """
import boto3, shared, function
def handler(event, context):
    return [shared.WHERE, boto3.WHERE, function.__file__ == __file__]
""",
        layers=[
            {
                "python/function.py": "WHERE = 'layer'",
                "python/shared.py": "WHERE = 'layer'",
                "python/boto3.py": "WHERE = 'layer'",
            }
        ],
    )

    assert function.invoke().response == ["layer", "layer", True]


def test_function_sees_lambdas_environment_and_no_other(
    make_function: MakeFunction,
) -> None:
    """A variable of the developer's shell must not make a function work."""
    function = make_function("import os\ndef handler(event, context): return dict(os.environ)")
    environment = function.invoke().response

    assert environment["AWS_EXECUTION_ENV"].startswith("AWS_Lambda_python3.")
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == function.name
    assert environment["TZ"] == "UTC"
    assert environment["AWS_ENDPOINT_URL"] == function.aws.endpoint_url
    assert "HOME" not in environment
    assert not [name for name in environment if name.startswith(("DAY2_", "PG", "PYTEST"))]
