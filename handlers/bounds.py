"""
What leaves us is bounded, and says what was left out. Pure.

The limits are AWS's: Lambda answers at most 6 MB (Lambda quotas, "Invocation payload"), an event
of EventBridge is at most 256 KB (PutEvents), and so is a message of SNS and SQS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from core.model import cut

RESPONSE_BYTES = 5_000_000
EVENT_BYTES = 200_000
LOG_LINE_BYTES = 200_000
TEXT_CHARACTERS = 100_000
SHORTEST_TEXT_CHARACTERS = 40

# Of these the newest is at the end, and is what people look for.
_NEWEST_LAST = ("history",)
LEFT_OUT = "left_out"


def bounded(body: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """
    Return *body* so that its JSON has at most about *most_bytes*.

    Long texts are cut. Then the largest list is halved until all of it fits, and ``left_out``
    counts, by field, what is missing: at the front of ``history``, at the end of the others.
    """
    found = dict(body)
    if _size(found) <= most_bytes:
        return found
    text_characters = min(TEXT_CHARACTERS, most_bytes // 4)
    found = _all_cut(found, text_characters)
    left_out: dict[str, int] = {}
    while (size := _size(found)) > most_bytes:
        lists = [
            (name, value) for name, value in found.items() if isinstance(value, list) and value
        ]
        if not lists:
            # What is left are texts, in whatever depth.
            text_characters //= 2
            if text_characters < SHORTEST_TEXT_CHARACTERS:
                return found
            found = _all_cut(found, text_characters)
            continue
        name, longest = max(lists, key=lambda one: _size(one[1]))
        # As much as is too much, and at most half: the next turn looks again.
        share = min(0.5, (size - most_bytes) / _size(longest))
        drop = max(1, int(len(longest) * share))
        found[name] = longest[drop:] if name in _NEWEST_LAST else longest[:-drop]
        left_out[name] = left_out.get(name, 0) + drop
        found[LEFT_OUT] = left_out
    return found


def _all_cut(body: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return *body* with all its texts cut."""
    return {name: _texts_cut(value, most) for name, value in body.items()}


def _texts_cut(value: Any, most: int) -> Any:
    """Return *value*, a part of some JSON, with its texts cut."""
    if isinstance(value, str):
        return cut(value, most)
    if isinstance(value, Mapping):
        return {name: _texts_cut(one, most) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_texts_cut(one, most) for one in value]
    return value


def _size(value: Any) -> int:
    """Return the bytes of *value* as JSON is written by Lambda's runtime: in ASCII at the most."""
    return len(json.dumps(value, default=str))
