"""What runs inside LocalStack's own process: Lambda as local processes, and an RDS API."""
