"""What a helper does with a thing of its name that somebody else made."""

from __future__ import annotations

from typing import Literal

from core.operations.sending import attributes

# Refuse it, or take it up as it is.
Existing = Literal["refuse", "adopt"]


def consent(name: str) -> str:
    """Return how one consents to *name*, which was there before, for a hint."""
    return (
        f'"take_over": ["{name}"] in the direct request, the action adopt, or existing="adopt" '
        "in the revision"
    )


def refuses(existing: Existing, name: str) -> bool:
    """Say whether a thing *name* of somebody else's is refused."""
    if existing not in ("refuse", "adopt"):
        raise ValueError(f"existing={existing!r}: give 'refuse' or 'adopt'")
    return existing == "refuse" and name not in attributes().get("take_over", ())
