"""
LocalStack's main program, in host mode.

    python -P -m infra.local.localstack.launch STATE_FOLDER

The folder is only there to be seen in the command line, by which ``make down`` knows the process.
"""

import os
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

from plux.runtime import cache


def _import_with_lock_as_a_class() -> None:
    """
    Import the module that needs ``threading.Lock`` to be a class, as it is from Python 3.13 on.

    It says ``Lock | None`` in a class body.  Without this every import of ``localstack.packages``
    fails, and Step Functions, which need it, answer InternalError.
    """
    new_lock = threading.Lock

    class Lock:
        def __new__(cls) -> Any:
            return new_lock()

    threading.Lock = Lock
    try:
        import localstack.packages.api  # noqa: F401
    finally:
        threading.Lock = new_lock


def _take_bytes_for_names() -> None:
    """
    Let ``uuid.uuid5`` take bytes, as it does from Python 3.12 on.

    LocalStack's KMS gives it some, and without this can make no key.
    """
    of_text = uuid.uuid5

    def uuid5(namespace: uuid.UUID, name: str | bytes) -> uuid.UUID:
        return of_text(namespace, name if isinstance(name, str) else name.decode("latin-1"))

    uuid.uuid5 = uuid5


def main() -> None:
    """Run LocalStack until it is told to stop."""
    kept = Path(os.environ["DAY2_LOCAL_CACHE"])
    # Found plugins are cached by the times of files, in the user's own cache folder: a stale entry
    # there hides ours.
    cache.get_user_cache_dir = lambda: kept
    if sys.version_info < (3, 13):
        _import_with_lock_as_a_class()
    if sys.version_info < (3, 12):
        _take_bytes_for_names()
    from localstack import config

    from infra.local.localstack import gate

    # The index of all of AWS's API takes 8 s to make.
    config.dirs.cache = str(kept)
    gate.close()
    from localstack.runtime.main import main as run

    from infra.local.localstack.calls import record_calls
    from infra.local.localstack.conditions import keep_them_apart
    from infra.local.localstack.endpoints import tell_their_names
    from infra.local.localstack.handing_over import lose_no_event
    from infra.local.localstack.updates import carry_out_updates

    keep_them_apart()
    record_calls()
    tell_their_names()
    carry_out_updates()
    lose_no_event()
    run()


if __name__ == "__main__":
    main()
