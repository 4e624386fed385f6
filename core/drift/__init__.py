"""What a database has, held against what its revisions promise."""
