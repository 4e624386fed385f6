"""A revision that runs a file of SQL: what the file may hold, and to whom it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import RunFailed
from core.revisions import manifest, rendering, scripts
from core.revisions.folder import Folder
from core.revisions.sql_files import SqlFileError, read

DUMP = """--
-- PostgreSQL database dump: it's \\restrict-ed
--

\\restrict Zy3kP0aQwErTyUiOp

SET standard_conforming_strings = on;
CREATE TABLE legacy.quota (
    share text DEFAULT '100%: \\o :x'::text,
    "odd\\name" text DEFAULT E'it\\'s \\\\q'
);
CREATE FUNCTION legacy.f() RETURNS text LANGUAGE sql AS $_$ SELECT '\\connect' $_$;
/* \\i old /* nested */ \\i more */

\\unrestrict Zy3kP0aQwErTyUiOp
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the folder of the revisions."""
    made = tmp_path / "versions"
    made.mkdir(parents=True)
    return made


def write_script(folder: Path, call: str = 'operations.sql_file("seed.sql")') -> Path:
    """Write a revision that runs a file."""
    file = folder / "001_seed.py"
    file.write_text(
        '"""Seed"""\nfrom core import operations\nfrom core.operations import sql_file as run\n'
        "revision = '001'\ndown_revision = None\n"
        f"def upgrade():\n    {call}\ndef downgrade():\n    pass\n"
    )
    return file


def test_a_dump_is_read_without_its_two_lines(folder: Path) -> None:
    """Backslashes in texts, names, comments and functions mean nothing to psql, nor to us."""
    file = folder / "dump.sql"
    file.write_text(DUMP, encoding="utf-8-sig")

    text = read(file)

    blank = " " * len("\\restrict Zy3kP0aQwErTyUiOp")
    assert text == DUMP.replace("\\restrict Zy3kP0aQwErTyUiOp", blank).replace(
        "\\unrestrict Zy3kP0aQwErTyUiOp", blank + "  "
    )


REFUSED = {
    "SELECT 1;\n\\connect shop\n": "seed.sql:2: \\connect works in psql only",
    "SELECT 1 \\gexec\n": "seed.sql:1: \\gexec works in psql only",
    "  \\i other.sql": "seed.sql:1: \\i works in psql only",
    "\\copy t FROM 'x'": "seed.sql:1: \\copy works in psql only",
    "\\set x 1": "seed.sql:1: \\set works in psql only",
    "\\": "seed.sql:1: \\ works in psql only",
    "SELECT 'a'\n;\nCOPY public.t (a, b) FROM stdin;\n1\tit's\n\\.\n": (
        "seed.sql:3: COPY … FROM stdin works in psql only: dump with --inserts"
    ),
    "copy t from STDIN with (format csv);": "seed.sql:1: COPY … FROM stdin works in psql only",
    "-- only a comment": "seed.sql contains no statement",
    "\\restrict a\n ; \n\\unrestrict a": "seed.sql contains no statement",
    "": "seed.sql contains no statement",
    "SELECT '\udcff'": "seed.sql is not in UTF-8",
}


def test_what_the_server_cannot_be_sent_is_refused(folder: Path, subtests: pytest.Subtests) -> None:
    """When the build is listed: by name and line, with the revision that runs the file."""
    write_script(folder)
    for text, problem in REFUSED.items():
        with subtests.test(repr(text)):
            (folder / "seed.sql").write_bytes(text.encode(errors="surrogateescape"))

            with pytest.raises(RunFailed) as caught:
                scripts.read(folder)

            assert f"001_seed.py:7: {problem}" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["COPY t TO '/x'; SELECT 'stdin';", "SELECT $$ COPY t FROM stdin; $$", "SELECT 1 -- \\x"],
)
def test_what_only_looks_like_psql_is_sent(folder: Path, text: str) -> None:
    """A word in a text or a comment is no command."""
    (folder / "seed.sql").write_text(text)

    assert read(folder / "seed.sql") == text


UNFOUND = {
    "'missing.sql'": "there is no file 'missing.sql' beside it",
    "'../seed.sql'": "'../seed.sql' is not a .sql file in the folder of the revisions, or below",
    "'link.sql'": "'link.sql' is not a .sql file in the folder of the revisions, or below",
    "'/etc/passwd'": "'/etc/passwd' is not a .sql file",
    "'001_seed.py'": "'001_seed.py' is not a .sql file",
    "''": "'' is not a .sql file",
    "'..'": "'..' is not a .sql file",
    "'folder.sql'": "there is no file 'folder.sql' beside it",
    "f'{revision}.sql'": "takes the name of the file in plain text",
    "name": "takes the name of the file in plain text",
    "": "takes the name of the file in plain text",
    "'seed.sql', 1": "takes the name of the file in plain text",
    "*['seed.sql']": "takes the name of the file in plain text",
}


@pytest.mark.parametrize("called", ["operations.sql_file", "run"])
def test_a_file_is_named_in_plain_text_and_lies_beside(
    folder: Path, called: str, subtests: pytest.Subtests
) -> None:
    """So that it is known, packaged and in the checksum, before anything is run."""
    (folder / "folder.sql").mkdir()
    (folder.parent / "seed.sql").write_text("SELECT 1")
    (folder / "seed.sql").write_text("SELECT 1")
    (folder / "link.sql").symlink_to(folder.parent / "seed.sql")
    for name, problem in UNFOUND.items():
        with subtests.test(name):
            write_script(folder, f"{called}({name})")

            with pytest.raises(RunFailed) as caught:
                scripts.read(folder)

            assert "001_seed.py:7: " in str(caught.value)
            assert problem in str(caught.value)


def test_a_file_is_run_as_it_is_written(folder: Path) -> None:
    """Colons, percent signs and empty lines in a text are as they were."""
    write_script(folder)
    text = "SELECT '{\"a\":1} 100%\n\n  :x';\n-- the end"
    (folder / "seed.sql").write_text(text)
    (revision,) = scripts.read(folder)

    (shown,), paper = rendering.statements(revision, "upgrade")

    assert (shown, paper.partial) == (text + "\n;", {})


def test_a_file_that_was_not_named_in_plain_text_is_not_run(folder: Path) -> None:
    """However it is called."""
    write_script(folder, "hidden = operations.sql_file; hidden('seed.sql')")
    (folder / "seed.sql").write_text("SELECT 1")
    (revision,) = scripts.read(folder)

    (shown, _), _ = rendering.statements(revision, "upgrade")

    assert "what follows cannot be shown (SqlFileError: operations.sql_file takes" in shown


def test_the_helper_is_for_revisions(folder: Path) -> None:
    """The file is looked for beside a script; there is no other place."""
    del folder
    with pytest.raises(SqlFileError):
        scripts.sql_file("seed.sql")


def test_a_changed_file_changes_the_checksum_of_its_revision(folder: Path) -> None:
    """Its line endings do not; a file that nobody runs does not either."""
    script = write_script(folder, 'operations.sql_file("data/seed.sql")')
    (folder / "data").mkdir()
    seed = folder / "data" / "seed.sql"
    seed.write_bytes(b"SELECT 1;\nSELECT 2;\n")

    def checksum() -> str:
        (revision,) = scripts.read(folder)
        assert revision.sql_files == (seed,)
        return revision.checksum

    first = checksum()
    seed.write_bytes(b"SELECT 1;\r\nSELECT 2;\r\n")
    (folder / "other.sql").write_text("SELECT 3")
    unchanged = checksum()
    seed.write_bytes(b"SELECT 1;\nSELECT 3;\n")
    changed = checksum()
    script.write_text(script.read_text() + "# changed\n")

    assert first == unchanged
    assert len({first, changed, checksum()}) == 3


@pytest.mark.parametrize("change", [None, "removed", "resized"])
def test_a_package_lists_the_files_that_its_revisions_run(
    folder: Path, tmp_path: Path, change: str | None
) -> None:
    """The list is trusted only for the files that lie beside it."""
    write_script(folder, 'operations.sql_file("data/seed.sql")')
    (folder / "data").mkdir()
    seed = folder / "data" / "seed.sql"
    seed.write_text("SELECT 1")
    listed = scripts.read(folder)
    manifest.write(Folder(tmp_path), listed)

    match change:
        case "removed":
            seed.unlink()
        case "resized":
            seed.write_text("SELECT 10")

    assert manifest.read(Folder(tmp_path)) == (listed if change is None else None)
