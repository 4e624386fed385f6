"""The server: a session with it, what its refusals mean, and who is in the way."""
