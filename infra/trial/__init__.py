"""A folder of migrations, tried on real servers as a team's CI does: ``make test-migrations``."""
