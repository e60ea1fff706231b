"""Singer SDK streams that fetch concurrently, retry with care and stop cleanly.

Nothing in this package knows about a particular source: a tap made from this one keeps it as it is.
"""

from tap_oso_example.rest.stream import ConcurrentStream, new_since, parse_time
from tap_oso_example.rest.tap import ConcurrentTap

__all__ = ["ConcurrentStream", "ConcurrentTap", "new_since", "parse_time"]
