"""Writes `RESULTS.md` from the results of each benchmark; `make bench` runs those before."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
# The folders, and the targets that fill them.
PARTS = {
    "end_to_end": "bench-end-to-end",
    "postgres_source": "bench-postgres",
    "bigquery_load": "bench-bigquery",
    "http_source": "bench-http",
}
HEAD = """\
# Benchmarks

Each beside what people use today, on one machine. `make bench` makes all of this; a part by itself:
{targets}."""


def main() -> None:
    """Put the results of the parts into one page."""
    pages = [HEAD.format(targets=", ".join(f"`make {target}`" for target in PARTS.values()))]
    for part in PARTS:
        text = (HERE / part / "RESULTS.md").read_text(encoding="utf-8")
        pages.append(as_section(text, part))
    (HERE / "RESULTS.md").write_text("\n\n".join(pages) + "\n", encoding="utf-8")


def as_section(page: str, folder: str) -> str:
    """Return a page as a section: headings a level lower, links from the folder above."""
    page = re.sub(r"^#", "##", page.strip(), flags=re.MULTILINE)
    return re.sub(r"\]\((?!https?:)", f"]({folder}/", page)


if __name__ == "__main__":
    main()
