"""What all commands share: their help, and why one stops, in a line for whoever typed it."""

import argparse


class StoppedError(Exception):
    """A command could not do what it is there for; the message says what to do. Exit status 1."""


class WrongUseError(StoppedError):
    """It was not called as it has to be, and has changed nothing. Exit status 2."""


def parser(name: str, document: str | None) -> argparse.ArgumentParser:
    """Return a parser for ``python -m <name>``, whose help is that module's own *document*."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        usage=argparse.SUPPRESS,
        description=(document or "").replace("``", "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
