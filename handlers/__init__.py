"""What can wake us: raw event in, response out."""
