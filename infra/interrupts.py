"""A command that is interrupted says so in a line, wherever it was, its imports included."""

import sys
from types import TracebackType


def told_briefly() -> None:
    """Have an interrupt that nobody else tells of be told in one line, and all else as before."""
    before = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = tell
