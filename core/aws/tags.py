"""Tags, as the services of AWS write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def by_key(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return *tags* by their keys; a tag may be without a value (RDS API, "Tag")."""
    return {tag["Key"]: tag.get("Value", "") for tag in tags}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return *tags* as a service takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
