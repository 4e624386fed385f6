"""Every rule, and what is found by one."""

from __future__ import annotations

from dataclasses import dataclass

# Every rule: why it is dangerous, and the better way.
RULES = {
    "literal-password": (
        "a password in a file is known to everybody who reads the repository or the server's log",
        "use operations.login, which keeps it in Secrets Manager",
    ),
    "grant-to-public": (
        "PUBLIC is every role that is, and every role that will be",
        "grant to a role made for it",
    ),
    "rds-iam-to-master": (
        "a member of rds_iam cannot log in with a password: it locks the master out",
        "use operations.login_by_iam for a login of its own",
    ),
    "security-definer": (
        "it runs as its owner and finds its names where the caller says",
        "add SET search_path = pg_catalog, pg_temp",
    ),
    "others-code": (
        (
            "triggers, rules and checks run as whoever changes rows, here the master, and these "
            "are of whoever owns a table that no revision has made"
        ),
        "use operations.as_role with that owner, or allow it where the master owns the table",
    ),
    "master-itself": (
        "day2 enters as the master, and works by what it owns and may do",
        "do it by hand, and have the master secret say the same",
    ),
    "default-privileges": (
        "without FOR ROLE it is about what the master makes, and nobody else",
        "name the roles that make the objects, as operations.read_only does",
    ),
    "blocking-index": (
        "it stops every write to the table until it is done",
        "use operations.index, or CONCURRENTLY in an autocommit block",
    ),
    "long-lock": (
        "it rewrites or reads the whole table while nobody else may use it",
        "add the constraint NOT VALID and validate it in a later revision, or fill a new column",
    ),
    "drop-without-note": (
        "what is dropped does not come back by itself",
        "say in the revision's docstring what happens then: a paragraph that begins 'Going back'",
    ),
    "unreadable": (
        "what cannot be read here cannot be checked",
        "write it out in plain SQL, or check it by eye and allow it",
    ),
    "colon": (
        "no run carries it out",
        "write the colon as it says, or bind a value",
    ),
    "unqualified-name": (
        "schema public is not searched where somebody else may create in it",
        (
            "write the schema before the name; a search path of the revision's own finds what "
            "others have put there, too"
        ),
    ),
    "loose-file": (
        "a file that a revision reads by itself can change unnoticed once it is applied",
        "use operations.sql_file, which puts it into the checksum",
    ),
    "useless-allowance": ("it allows nothing, and would hide a later finding", "remove it"),
}

# An allowance would only hide what fails all the same.
NEVER_ALLOWED = {"colon"}


@dataclass(frozen=True, order=True)
class Finding:
    """One dangerous thing: in which revision and direction, by which rule, in which statement."""

    revision: str
    direction: str
    rule: str
    statement: str

    def __str__(self) -> str:
        reason, better = RULES[self.rule]
        return (
            f"{self.revision} {self.direction}: {self.rule}: {self.statement}\n"
            f"    {reason}: {better}"
        )
