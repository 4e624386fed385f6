"""The RDS API, with a server behind each instance and each member of a cluster."""
