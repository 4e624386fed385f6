"""What a revision does to the process is not felt by the next event of a warm container."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.revisions.containment import contained
from tests.equipment.world import World, is_root

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
    "a signal that waits": "import signal as s\ns.pthread_sigmask(s.SIG_BLOCK, [s.SIGUSR1])",
    "few decimals": "import decimal\ndecimal.getcontext().prec = 2",
    "warnings that are errors": "import warnings\nwarnings.simplefilter('error')",
    "no way to a library": "import sys\nsys.path.clear()\nsys.path_hooks.clear()",
    "lines of its own form": (
        "import logging\n"
        "for one in logging.getLogger('core').handlers:\n"
        "    one.setFormatter(logging.Formatter('%(message)s'))\n    one.setLevel(logging.CRITICAL)"
    ),
    "its own json": "import json\njson.dumps = json.JSONEncoder.default = lambda *a, **b: 1 / 0",
    "its own driver": (
        "import psycopg2\npsycopg2.connect = lambda *a, **b: 1 / 0\n"
        "import psycopg2.extras as e\ne.RealDictCursor.fetchall = lambda self: 1 / 0"
    ),
    "its own time": "import datetime\ndatetime.datetime = None",
    "its own sockets": "import socket\nsocket.getaddrinfo = socket.socket = lambda *a, **b: 1 / 0",
    "a function of ours": "from core.postgres import session\nsession.query = lambda *a: 1 / 0",
    "no Alembic": "import alembic\nalembic.op = None",
    "no module": "import sys\ndel sys.modules['alembic.op'], sys.modules['json']",
    "a listener": (
        "from sqlalchemy import event\nfrom sqlalchemy.engine import Engine\n"
        "event.listen(Engine, 'before_cursor_execute', lambda *a: 1 / 0)"
    ),
}


def test_the_next_event_does_not_feel_it(world: World, history: MakeHistory) -> None:
    """It is answered, logged and carried out as if it were the first; it may be another's."""
    names = [f"a{number:02}" for number in range(len(LEFT_BEHIND))]
    bodies = dict(zip(names, LEFT_BEHIND.values(), strict=True))
    ini = history(bodies | {"last": "operations.role('later')\nop.execute('SELECT 1')"})

    events = [world.request(target=name) for name in (*names, "last")]
    answers = world.container.call_each(events, ini=ini, seconds=110)

    for what, before, following in zip(LEFT_BEHIND, names, answers[1:], strict=True):
        assert following.outcome == "APPLIED", (what, before, following)
    assert answers[0].outcome == "APPLIED", answers[0]
    assert answers[0].log.count('"run finished"') == len(answers)


def test_what_a_revision_leaves_running_is_told(world: World, history: MakeHistory) -> None:
    """Its work is in no record; one that comes back from it is ended."""
    sleeps = "import threading\nthreading.Thread(target=time.sleep, args=(3,), name='lazy').start()"
    ini = history(
        {
            "a1": sleeps,
            "a2": "import subprocess\nsubprocess.Popen(['sleep', '3'])",
            "a3": (
                "import subprocess, threading\nsubprocess.run(['true'])\n"
                "one = threading.Thread(target=op.execute, args=('SELECT 1',))\n"
                "one.start()\none.join()"
            ),
            "a4": "from os import fork, wait\nif fork():\n    wait()",
            "a5": "op.execute('CREATE TABLE public.five ()')",
        }
    )

    answer = world.call(ini=ini)

    assert (answer.outcome, answer.body["applied_migrations"]) == (
        "APPLIED",
        ["a1", "a2", "a3", "a4", "a5"],
    ), answer
    assert [text.partition(" running")[0] for text in answer.body["warnings"]] == [
        "a1: left the thread lazy",
        "a2: left a process",
    ]
    assert "a4: a process that it forked came back from it, and was ended" in answer.log
    assert answer.log.count('"run finished"') == 1


def test_what_is_committed_is_told_whatever_fails_behind_it(
    world: World, history: MakeHistory
) -> None:
    """Here nobody can log that the second is applied; the answer names both."""
    breaks = "import logging\nlogging.setLogRecordFactory(lambda *a, **b: 1 / 0)"

    answer = world.call(ini=history({"a1": "pass", "a2": breaks, "a3": "pass"}))

    assert answer.body["message"] == "unexpected ZeroDivisionError: see the log of this request"
    assert (answer.outcome, answer.body["applied_migrations"], answer.body["final_revision"]) == (
        "FAILED",
        ["a1", "a2"],
        "a2",
    )


def test_a_limit_that_nobody_can_raise_again_is_told() -> None:
    """The function is not root: a hard limit that was lowered stays, and may end the next run."""
    processes = multiprocessing.get_context("fork")
    told: Any = processes.SimpleQueue()
    one = processes.Process(target=lower_limits, args=(told,))
    one.start()
    one.join()

    (text,) = told.get()
    assert text.startswith("a revision left RLIMIT_NOFILE at 64, which nobody can raise again")


def lower_limits(told: Any) -> None:
    """Lower limits as somebody who is not root, and tell what is told of it."""
    found: list[str] = []
    os.chdir("/")
    if is_root():
        os.setuid(65534)
    with contained(found.extend):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))
    told.put(found)


def test_new_files_may_be_read_as_before() -> None:
    """The mask decides who may; only a function that is not root feels it."""
    before = os.umask(0o022)
    try:
        with contained():
            os.umask(0o777)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_no_alarm_ends_a_later_run() -> None:
    """Nobody hears it then, and the process would end."""
    before, _ = signal.getitimer(signal.ITIMER_REAL)
    with contained():
        signal.setitimer(signal.ITIMER_REAL, 3600)

    assert signal.getitimer(signal.ITIMER_REAL)[0] <= before
