"""Benchmarks of OSO Connect beside its peers; each is a package to run with `python -m`."""
