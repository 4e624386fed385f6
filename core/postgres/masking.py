"""Secrets in SQL text, masked: what a statement or a server's message may hold of a password."""

from __future__ import annotations

import re

MASK = "***"

# What follows PASSWORD: a string in quotes or dollars, or the word in a connection string. And
# what a server stores: a SCRAM verifier (RFC 5803) or an MD5 hash, wherever it stands. And what
# an error may quote: a secret's JSON, and a URL.
_LITERAL = re.compile(
    r"(?i)(\bPASSWORD\b['\"]?\s*(?:=|:)?\s*)"
    r"(?:(?:[EeNn]|U&)?'(?:[^'\\]|''|\\.)*'|\$(\w*)\$.*?\$\2\$)",
    re.DOTALL,
)
_IN_A_STRING = re.compile(r"(?i)(\b(?:PG)?password\s*=\s*)(?:''.*?''|[^\s'\";)]+)")
_IN_JSON = re.compile(r'(?i)("password"\s*:\s*)"(?:[^"\\]|\\.)*"')
_IN_A_URL = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@'\"]{0,63}:)[^\s/@'\"]+@")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")
_MD5 = re.compile(r"\bmd5[0-9a-f]{32}\b")


def masked(text: str) -> str:
    """Return *text* without the passwords and verifiers in it."""
    text = _IN_A_STRING.sub(rf"\1{MASK}", text)
    text = _IN_JSON.sub(rf'\1"{MASK}"', text)
    text = _IN_A_URL.sub(rf"\1{MASK}@", text)
    text = _LITERAL.sub(rf"\1'{MASK}'", text)
    return _MD5.sub(MASK, _VERIFIER.sub(MASK, text))
