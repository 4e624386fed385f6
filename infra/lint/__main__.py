"""The command: ``python -m infra.lint``, with MIGRATIONS for another folder."""

from __future__ import annotations

import sys

from core.errors import RunFailed
from infra import migrations
from infra.commands import parser
from infra.lint.revisions import lint


def main() -> int:
    """Print what is found; 1 if anything is."""
    try:
        found = lint(migrations.chosen())
    except RunFailed as error:
        print(error)
        return 1
    for finding in found:
        print(finding)
    print(f"{len(found)} finding(s)" if found else "the revisions are clean")
    return 1 if found else 0


if __name__ == "__main__":
    parser("infra.lint", __doc__).parse_args()
    sys.exit(main())
