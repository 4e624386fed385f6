"""Where a database is, and who may enter it."""
