"""The function's settings, read once from its environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from core.errors import InvalidField

ROOT = Path(__file__).resolve().parent.parent
# Ours, wherever the migrations are.
INI = ROOT / "alembic.ini"
RDS_CA_BUNDLE = str(ROOT / "core" / "rds-ca-bundle.pem")


def target_parameter(prefix: str, instance: str) -> str:
    """Return the name of the parameter that declares the target of *instance*."""
    return f"/{prefix}/{instance}/target-revision"


def observed_parameter(prefix: str, instance: str) -> str:
    """Return the name of the parameter that holds the observed state of *instance*."""
    return f"/{prefix}/{instance}/observed-state"


class Settings(NamedTuple):
    """
    What the function is set to, and what holds where its environment says nothing.

    Attributes:
        prefix: Of parameter names, tags, secrets and our events' source.
        master_secret_name: A pattern with ``{instance}``; empty for none.
        manage_all: Opt in every instance, tagged or not.
        margin_seconds: Of the function's time, kept for reporting.
        minimum_slice_seconds: Least time in which a further revision is begun.
        relation_lock_timeout_ms: How long a statement waits for a relation, each try.
        revision_tries: How often a revision is tried that met a lock.
        waiting_queue_arn: Of the queue where an event waits whose run has to be put off; empty
            for none.
        migrations: The folder that the layer with the migrations makes; empty for the examples
            inside the function.
        build: Identifies what is deployed: the function, and the layer with the migrations.
    """

    prefix: str = "day2"
    master_secret_name: str = ""
    follow_head: bool = False
    manage_all: bool = False
    instance_name_prefix: str = ""
    lock_wait_seconds: int = 60
    ready_deadline_seconds: int = 7200
    margin_seconds: int = 10
    minimum_slice_seconds: int = 30
    relation_lock_timeout_ms: int = 2000
    revision_tries: int = 5
    strict_checksums: bool = False
    allow_rollback: bool = False
    iam_authentication: bool = False
    ca_file: str = RDS_CA_BUNDLE
    vpc_id: str = ""
    security_group_ids: str = ""
    waiting_queue_arn: str = ""
    waiting_queue_url: str = ""
    result_topic_arn: str = ""
    secret_kms_key_id: str = ""
    migrations: str = ""
    build: str = "unpackaged"

    @classmethod
    def from_env(cls, variables: Mapping[str, str]) -> Settings:
        """
        Read ``DAY2_<FIELD>`` for each field; an absent or empty one keeps its default.

        Raises:
            InvalidField: A variable is not a whole number, or not ``true`` or ``false``.
        """
        values: dict[str, object] = {}
        for name, default in cls._field_defaults.items():
            variable = f"DAY2_{name.upper()}"
            text = variables.get(variable, "").strip()
            if not text:
                continue
            if isinstance(default, bool):
                if text not in ("true", "false"):
                    raise InvalidField(variable, f"{text!r} is not a boolean", "give true or false")
                values[name] = text == "true"
            elif isinstance(default, int):
                if not text.isdecimal():
                    raise InvalidField(
                        variable, f"{text!r} is not a whole number", "use digits only"
                    )
                values[name] = int(text)
            else:
                values[name] = text
        if "build" not in values:
            builds = [ROOT / "BUILD"]
            if "migrations" in values:
                builds.append(Path(str(values["migrations"])) / "BUILD")
            # Not exists(): macOS takes the checkout's own folder build for it.
            found = [one.read_text().strip() for one in builds if one.is_file()]
            if found:
                values["build"] = "+".join(found)
        return cls(**values)  # type: ignore[arg-type]
