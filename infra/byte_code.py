"""
Byte code for a package, made and checked by the Python that will run it.

Run as a program by that very interpreter, which may be another than the one that packages, so this
needs nothing but the standard library. Lambda's file system is read-only: a package without byte
code is compiled anew by every cold start, and one whose byte code does not fit is too.
"""

from __future__ import annotations

import argparse
import importlib.util
import py_compile
from pathlib import Path, PurePosixPath

# PEP 552: byte code found by a hash, which the interpreter does not compare with the source.
UNCHECKED_HASH = (0b01).to_bytes(4, "little")


def compile_tree(tree: Path, installed_at: PurePosixPath) -> None:
    """
    Compile every source under *tree*; tracebacks will name files under *installed_at*.

    One process, in a fixed order: what the marshal format shares between objects depends on what
    the interpreter has seen before.
    """
    for source in sorted(tree.rglob("*.py")):
        py_compile.compile(
            str(source),
            dfile=str(installed_at / source.relative_to(tree).as_posix()),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def faults(tree: Path) -> list[str]:
    """List what is wrong with the byte code under *tree*, for this interpreter."""
    found = []
    sources = {
        Path(importlib.util.cache_from_source(str(path))): path for path in tree.rglob("*.py")
    }
    for byte_code, source in sorted(sources.items()):
        name = source.relative_to(tree)
        if not byte_code.is_file():
            found.append(f"{name}: no byte code")
            continue
        digest = importlib.util.source_hash(source.read_bytes())
        expected = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + digest
        if byte_code.read_bytes()[: len(expected)] != expected:
            found.append(f"{name}: byte code of another source, kind or Python")
    orphans = sorted(set(tree.rglob("*.pyc")) - set(sources))
    return found + [f"{path.relative_to(tree)}: byte code without its source" for path in orphans]


def main() -> None:
    """Compile a tree, then check all of it."""
    parser = argparse.ArgumentParser(description="Compile a package's byte code and check it.")
    parser.add_argument("tree", type=Path)
    parser.add_argument("installed_at", type=PurePosixPath)
    arguments = parser.parse_args()
    compile_tree(arguments.tree, arguments.installed_at)
    if found := faults(arguments.tree):
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
