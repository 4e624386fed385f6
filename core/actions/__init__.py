"""What a request does, from the request to the answer: the story is in ``migrate``."""
