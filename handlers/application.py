"""What one container makes once and keeps: settings, AWS clients, the list of revisions."""

from __future__ import annotations

import os
from functools import cache, cached_property
from pathlib import Path

from core.aws.account import Aws
from core.revisions.folder import Folder
from core.revisions.runner import Revisions
from core.settings import Settings


class Application:
    """What the requests of one container share; each part is made when first needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def aws(self) -> Aws:
        return Aws(self.settings)

    @cached_property
    def revisions(self) -> Revisions:
        layer = self.settings.migrations
        return Revisions(folder=Folder(Path(layer)), is_layer=True) if layer else Revisions()


@cache
def application() -> Application:
    """
    Return this container's application, made from its environment variables at first use.

    Raises:
        InvalidField: A variable has a wrong value; the next call tries again.
    """
    return Application(Settings.from_env(os.environ))
