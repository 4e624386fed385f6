"""The door to AWS: instances, parameters, secrets and events. Nothing is decided here."""
