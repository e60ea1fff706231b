"""Reading Meltano's structured log: lines for people, rows by stream, the reason of a failure."""

import json
from collections import Counter, deque
from typing import Any

RECORD_COUNT = "record_count"
METRIC = "METRIC"
LINES_OF_A_FAILURE = 5


class LogReader:
    """Takes the lines of `meltano --log-format json` as they come."""

    def __init__(self) -> None:
        self._rows: dict[str, Counter[str]] = {"extractor": Counter(), "loader": Counter()}
        self._last: deque[str] = deque(maxlen=LINES_OF_A_FAILURE)

    @property
    def rows(self) -> dict[str, int]:
        """Rows by stream: what the target says it has loaded, or else what the tap has read.

        Both count with the metric of the Singer SDK, whose values add up.
        https://sdk.meltano.com/en/latest/implementation/logging.html
        """
        return dict(self._rows["loader"] or self._rows["extractor"])

    @property
    def last_lines(self) -> str:
        """The last lines that were not measurements."""
        return "\n".join(self._last)

    def read(self, line: str) -> str | None:
        """Return what to show of a line; `None` for a measurement."""
        try:
            entry = json.loads(line)
            text = str(entry["event"]).strip()
        except (ValueError, KeyError, TypeError):
            entry, text = {}, line.rstrip()
        if not text:
            return None
        if text.startswith(METRIC):
            self._count(entry, text)
            return None
        if message := entry.get("message"):
            text = f"{text}: {message}"
        level, name = entry.get("level", "info"), entry.get("name", "meltano")
        # What Meltano says on its own is for people in front of a terminal, errors aside.
        if name != "meltano" or level in {"error", "critical"}:
            self._last.append(f"{name}: {text.splitlines()[0]}")
        time = str(entry.get("timestamp", ""))[11:19]
        return f"{time} {level:<7} {name}: {text}".strip()

    def _count(self, entry: dict[str, Any], text: str) -> None:
        try:
            point = entry.get("metric_info") or json.loads(text.removeprefix(f"{METRIC}:"))
            if point["metric"] == RECORD_COUNT:
                counts = self._rows[entry["cmd_type"]]
                counts[point["tags"]["stream"]] += int(point["value"])
        except (ValueError, KeyError, TypeError):
            return
