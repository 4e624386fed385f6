"""AWS as one account and region show it: all that a run needs of it, in one value."""

from __future__ import annotations

from core.aws.messages import Messages
from core.aws.parameter_store import ParameterStore
from core.aws.rds import Rds
from core.aws.secrets_manager import SecretsManager


class Aws(Rds, ParameterStore, SecretsManager, Messages):
    """Each service by its own name; the ports of ``core.actions`` and ``core.access`` fit it."""
