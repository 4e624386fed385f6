"""What a revision does to the process is not felt by the next event of a warm container."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.revisions.containment import contained
from tests.equipment.world import World

MakeHistory = Callable[..., Path]

LEFT_BEHIND = {
    "another address for libpq": "import os\nos.environ['PGHOSTADDR'] = '127.0.0.2'",
    "another kind of server": "import os\nos.environ['PGTARGETSESSIONATTRS'] = 'standby'",
    "a list of revoked certificates": "import os\nos.environ['PGSSLCRL'] = '/nonexistent'",
    "another AWS": "import os\nos.environ['AWS_ENDPOINT_URL'] = 'http://127.0.0.1:1'",
    "no variables at all": "import os\nos.environ.clear()",
    "another folder": "import os\nos.chdir('/')",
    "no logging": "import logging\nlogging.disable(logging.CRITICAL)",
    "other logging": "import logging\nlogging.basicConfig(force=True, level=logging.DEBUG)",
    "loggers that are off": ("import logging.config\nlogging.config.dictConfig({'version': 1})"),
    "a closed stdout": "import sys\nsys.stdout.close()",
    "no stdout": "import sys\nsys.stdout = None",
    "an impatient socket": "import socket\nsocket.setdefaulttimeout(0.0001)",
    "a low limit": "import sys\nsys.setrecursionlimit(120)",
    "other types of the driver": (
        "import psycopg2.extensions as e\n"
        "e.register_type(e.new_type((1184, 1043, 20, 16), 'X', lambda v, c: v))"
    ),
    "another encoding": "import locale\nlocale.setlocale(locale.LC_ALL, 'C')",
    "few files": (
        "import resource as r\nr.setrlimit(r.RLIMIT_NOFILE, (12, r.getrlimit(r.RLIMIT_NOFILE)[1]))"
    ),
    "no collection": "import gc\ngc.disable()",
    "a deaf process": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
}


@pytest.mark.parametrize("body", LEFT_BEHIND.values(), ids=LEFT_BEHIND.keys())
def test_the_next_event_does_not_feel_it(world: World, history: MakeHistory, body: str) -> None:
    """It is answered, logged and carried out as if it were the first; it may be another's."""
    ini = history({"a1": body, "a2": "op.execute('SELECT 1')", "a3": "operations.role('later')"})

    own, following = world.container.call_each(
        [world.request(target="a2"), world.request(target="a3")], ini=ini, seconds=40
    )

    assert own.outcome == "APPLIED", own
    assert (following.outcome, following.body["applied_migrations"]) == ("APPLIED", ["a3"])
    assert "a3: applied" in following.log


def test_new_files_may_be_read_as_before() -> None:
    """The mask decides who may; only a function that is not root feels it."""
    before = os.umask(0o022)
    try:
        with contained():
            os.umask(0o777)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
