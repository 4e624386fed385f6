"""
What day2 does: plan and apply revisions to one database, safely.

Knows no event shape and no Lambda. The rooms, each importing only from those below it::

    operations            what migrations import: a contract with revisions deployed years ago
    actions/              what a request does; migrate is the story
    access/  revisions/   where a database is and who may enter · the build's revisions
    postgres/  decisions/ the server · what is decided from values alone
    aws                   the door to botocore
    settings budget       what the function was given: parameters, and time
    errors                everything that can go wrong, by what to do next
    model  outcome        the values that cross a boundary

``tests/unit/test_architecture.py`` enforces it, and has a rule for every module.
"""
