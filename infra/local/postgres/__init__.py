"""PostgreSQL servers that look like RDS instances, in whatever versions this machine can have."""
