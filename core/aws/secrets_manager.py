"""Secrets Manager: the master's secrets, and those of the logins that migrations make."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from core.aws.calls import Calls
from core.aws.tags import by_key, tag_list
from core.errors import InvalidField, NotFound, NoValue, Rejected
from core.model import Secret


class SecretsManager(Calls):
    """Secrets, their tags and their values."""

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret:
        """
        Return the secret *name* (a name or an ARN) at *stage*.

        Raises:
            InvalidField: It is binary.
        """
        found = self._call(
            "secretsmanager:GetSecretValue",
            f"secret {name}",
            lambda: self._client("secretsmanager").get_secret_value(
                SecretId=name, VersionStage=stage
            ),
            NotFound,
        )
        if "SecretString" not in found:
            raise InvalidField(f"secret {name}", "is binary", "store JSON as its SecretString")
        return Secret(found["Name"], found["ARN"], found["SecretString"])

    def secret_tags(self, name: str) -> dict[str, str]:
        """
        Return the tags of the secret *name*.

        Raises:
            NoValue: It has no current value, as a template leaves a secret for later.
            Rejected: It is scheduled for deletion.
        """
        found = self._call(
            "secretsmanager:DescribeSecret",
            f"secret {name}",
            lambda: self._client("secretsmanager").describe_secret(SecretId=name),
            NotFound,
        )
        if "DeletedDate" in found:
            raise Rejected(f"secret {name} is scheduled for deletion: restore it, then try again")
        tags = _tags_of(found)
        if not any("AWSCURRENT" in one for one in found.get("VersionIdsToStages", {}).values()):
            raise NoValue(f"secret {name} has no value: store one", tags)
        return tags

    def login_secrets(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield name and tags of each secret under the prefix that was set on a database."""
        name, tag = f"{self._prefix}/", f"{self._prefix}:dbi-resource-id"
        wanted = [{"Key": "name", "Values": [name]}, {"Key": "tag-key", "Values": [tag]}]
        for page in self._pages(
            "secretsmanager:ListSecrets",
            f"{name}*",
            lambda **more: self._client("secretsmanager").list_secrets(
                MaxResults=100, Filters=wanted, **more
            ),
            ("NextToken", "NextToken"),
        ):
            for found in page["SecretList"]:
                yield found["Name"], _tags_of(found)

    def create_secret(
        self, name: str, text: str, *, description: str, tags: Mapping[str, str]
    ) -> None:
        """Make the secret *name* that holds *text*, under the stack's key if it has one."""
        key = self._settings.secret_kms_key_id
        # The same for each try: where only the answer was lost, the next one finds it done
        # (Secrets Manager API, CreateSecret, "ClientRequestToken").
        token = str(uuid.uuid4())
        self._call(
            "secretsmanager:CreateSecret",
            f"secret {name}",
            lambda: self._client("secretsmanager").create_secret(
                Name=name,
                ClientRequestToken=token,
                Description=description,
                SecretString=text,
                Tags=tag_list(tags),
                **({"KmsKeyId": key} if key else {}),
            ),
        )

    def put_secret(self, name: str, text: str) -> None:
        """Make *text* the current value of the secret *name*."""
        token = str(uuid.uuid4())
        self._call(
            "secretsmanager:PutSecretValue",
            f"secret {name}",
            lambda: self._client("secretsmanager").put_secret_value(
                SecretId=name, ClientRequestToken=token, SecretString=text
            ),
            NotFound,
        )

    def tag_secret(self, name: str, tags: Mapping[str, str]) -> None:
        """Put *tags* on the secret *name*."""
        self._call(
            "secretsmanager:TagResource",
            f"secret {name}",
            lambda: self._client("secretsmanager").tag_resource(SecretId=name, Tags=tag_list(tags)),
            NotFound,
        )

    def untag_secret(self, name: str, tag: str) -> None:
        """Take *tag* from the secret *name*, if it has it."""
        self._call(
            "secretsmanager:UntagResource",
            f"secret {name}",
            lambda: self._client("secretsmanager").untag_resource(SecretId=name, TagKeys=[tag]),
            NotFound,
        )


def _tags_of(secret: Mapping[str, Any]) -> dict[str, str]:
    return by_key(secret.get("Tags", []))
