"""Whether a warehouse holds what its source holds: the rows that differ, by name."""

from sandbox.diff.compare import Progress, differences
from sandbox.diff.report import Difference, TableReport

__all__ = ["Difference", "Progress", "TableReport", "differences"]
