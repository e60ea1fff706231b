"""Whether a warehouse holds what its source holds: the rows that differ, by name."""

from sandbox.diff.compare import Difference, Progress, TableReport, differences

__all__ = ["Difference", "Progress", "TableReport", "differences"]
