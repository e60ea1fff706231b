"""What the figures say: the tables and the charts."""

from __future__ import annotations

from typing import Any, NamedTuple

ROWS = 500_000


class Run(NamedTuple):
    """One run of a pipeline."""

    label: str
    rows: int
    seconds: float
    cpu: dict[str, float]
    servers_cpu: dict[str, float]
    peak_mib: float
    peaks_mib: dict[str, float]


def read() -> dict[str, Any]:
    return {}


def write(measured: dict[str, Any]) -> None:
    print(measured)
