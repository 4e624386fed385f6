"""
Events that wait while a function's old build is exchanged for the new one, which LocalStack drops.

Both builds take from the same queue, and the old one throws away what it has taken but not begun
when it is told to end. AWS loses none: "Lambda manages the function's asynchronous event queue"
(Developer Guide, "Invoking a Lambda function asynchronously"), whichever build takes from it.
"""

# ruff: noqa: SLF001 - LocalStack has no public way to this, and its version is pinned.

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from localstack.services.lambda_.invocation import event_manager
from localstack.services.lambda_.invocation.event_manager import Poller

WAIT_SECONDS = 2
MESSAGES = 10
# How much longer than the function runs a message stays with who has taken it, as in LocalStack.
BEYOND_TIMEOUT_SECONDS = 60


def lose_no_event() -> None:
    """Have an old build put back what it does not begin, at once, for the new one."""
    Poller.run = _run


def _run(poller: Any, *_args: Any, **_kwargs: Any) -> None:
    """Take events until told to end, and have each carried out."""
    version = poller.version_manager.function_version
    client = event_manager.get_sqs_client(version)
    queue = client.queue_manager.get_queue(poller.event_queue_url)
    while not poller._shutdown_event.is_set():
        taken = client.receive_message(
            QueueUrl=poller.event_queue_url,
            WaitTimeSeconds=WAIT_SECONDS,
            MaxNumberOfMessages=MESSAGES,
            VisibilityTimeout=version.config.timeout + BEYOND_TIMEOUT_SECONDS,
        )
        for message in taken["Messages"] or ():
            _begin(poller, queue, message)


def _begin(poller: Any, queue: Any, message: dict[str, Any]) -> None:
    """Have *message* carried out, or put back where *poller* ends before that has begun."""

    def put_back() -> None:
        queue.update_visibility_timeout(message["ReceiptHandle"], 0)

    def ended(work: Future[None]) -> None:
        if work.cancelled():
            put_back()

    try:
        work = poller.invoker_pool.submit(poller.handle_message, message)
    except RuntimeError:
        # The pool takes nothing more: the poller was told to end while it waited for messages.
        put_back()
    else:
        work.add_done_callback(ended)
