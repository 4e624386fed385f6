"""Statements of a revision's own: as another role, or from a file of SQL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from core.operations.sending import acting, send
from core.revisions import scripts
from core.revisions.sql_files import read

logger = logging.getLogger(__name__)


@contextmanager
def as_role(name: str) -> Iterator[None]:
    """
    Run the statements inside as the role *name*, and not as the master.

    Whoever owns a table has code in it: triggers, defaults, index expressions, domains. A
    statement of the master's runs that code as the master. In here each runs in a function
    of *name*'s (``SECURITY DEFINER``), which that code cannot leave, as it could leave SET
    ROLE::

        with operations.as_role("app_role"):
            op.execute("UPDATE app_schema.orders SET note = 'filled'")

    Statements are run for what they do: one that returns rows is refused, and what cannot
    run in a function (CREATE INDEX CONCURRENTLY, VACUUM, COMMIT) fails. Deferred constraints
    are checked at the end, while the role is still the one that acts.

    Raises:
        ValueError: A statement inside returns rows.
    """
    with acting(name):
        yield


def sql_file(name: str) -> None:
    """
    Run the SQL in the file *name*, which lies beside the revision or below, as it is written.

    The file belongs to the revision: to its checksum, to the package, to ``plan`` and to what
    is linted. So *name* is plain text, and ends in ``.sql``. A dump of ``pg_dump`` is such a
    file; psql's own commands and COPY's data are refused.

    Raises:
        SqlFileError: The file cannot be run; the message names it and its line.
    """
    send(read(scripts.sql_file(name)))
    logger.info("%s is run", name)
