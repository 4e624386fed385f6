"""Which folder of migrations a command is about: make … MIGRATIONS=../acme-migrations."""

from __future__ import annotations

import os

from core.revisions.folder import EXAMPLES, Folder

VARIABLE = "MIGRATIONS"


def chosen() -> Folder:
    """
    Return the folder that the command names, or the examples where it names none.

    Raises:
        RunFailed: It names one that cannot be used; the message is one line.
    """
    given = os.environ.get(VARIABLE)
    return EXAMPLES if given is None else Folder.named(given, VARIABLE)
