"""
The local AWS: LocalStack, Lambda and RDS on this machine, without Docker.

``python -m infra.local`` is its command line; ``make`` is how a person reaches it.
"""
