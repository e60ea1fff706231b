"""Benchmark of HTTP sources: `tap-oso-example` beside the same source on CloudQuery's Python SDK.

`make bench-http` runs it and writes `RESULTS.md` and `results.svg` in this folder.
"""
