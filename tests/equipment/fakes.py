"""AWS as tests need it without a network: what a team's trials of migrations have, too."""

from infra.trial.cloud import MemoryCloud as FakeCloud
from infra.trial.cloud import Register as FakeRegister

__all__ = ["FakeCloud", "FakeRegister"]
