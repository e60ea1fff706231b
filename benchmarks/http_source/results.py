"""What the figures say: the goals, the table and the chart."""

from __future__ import annotations

import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from benchmarks.http_source.contenders import (
    CLOUDQUERY_VERSION,
    IN_FLIGHT,
    OURS,
    OURS_ALONE,
    PEER,
    PEER_ALONE,
    Contender,
)
from benchmarks.http_source.scenarios import FIVE_HUNDRED_COMICS, NO_LATENCY, RELEASES, START
from benchmarks.report import Bar, Panel, draw, spread, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.http_source.scenarios import Scenario
    from benchmarks.measure import Usage

FOLDER = Path(__file__).parent
#: What each sync took in each round.
Measured: TypeAlias = "dict[tuple[Scenario, Contender], list[Usage]]"
# All comics, and the request for the number of the latest.
COMIC_REQUESTS = FIVE_HUNDRED_COMICS.comics + 1
WAITING = COMIC_REQUESTS / IN_FLIGHT * FIVE_HUNDRED_COMICS.latency


class Goal(NamedTuple):
    """Something to reach, and the figure that tells."""

    text: str
    figure: str
    reached: bool


def goals(measured: Measured) -> list[Goal]:
    """Return the goals with what was measured of them."""

    def times_peer(scenario: Scenario) -> float:
        return statistics.median(ratios(measured, scenario, OURS))

    start = statistics.median(usage.wall for usage in measured[START, OURS])
    comics = statistics.median(usage.wall for usage in measured[FIVE_HUNDRED_COMICS, OURS])
    limit = 1.2 * WAITING + start
    return [
        Goal(
            f"500 comics within 1.2 × ({COMIC_REQUESTS} requests ÷ {IN_FLIGHT} × 50 ms) and the "
            "start-up",
            f"{comics:.2f} s of {limit:.2f} s ({WAITING:.2f} s waiting, {start:.2f} s start-up)",
            comics <= limit,
        ),
        *(
            Goal(
                f"{scenario.title}: not slower than CloudQuery's SDK",
                f"{times_peer(scenario):.2f} × its speed",
                times_peer(scenario) >= 1,
            )
            for scenario in (FIVE_HUNDRED_COMICS, RELEASES)
        ),
        Goal(
            f"{NO_LATENCY.title}: at least 3 × the records per second of CloudQuery's SDK",
            f"{times_peer(NO_LATENCY):.1f} × its speed",
            times_peer(NO_LATENCY) >= 3,
        ),
    ]


def ratios(measured: Measured, scenario: Scenario, contender: Contender) -> list[float]:
    """Return how many times as fast as CloudQuery's SDK a contender was, round by round."""
    pairs = zip(measured[scenario, PEER], measured[scenario, contender], strict=False)
    return [peer.wall / usage.wall for peer, usage in pairs]


def write(measured: Measured) -> None:
    """Write `RESULTS.md` and `results.svg`."""
    rows = [
        [
            scenario.title,
            contender.label,
            spread([usage.wall for usage in usages]),
            spread([usage.cpu for usage in usages]),
            spread([usage.peak for usage in usages], "{:.0f}"),
            spread(rates(scenario, usages), "{:,.0f}") if scenario != START else "",
            spread(ratios(measured, scenario, contender)) if contender != PEER else "1",
        ]
        for (scenario, contender), usages in measured.items()
    ]
    titles = [scenario.title for scenario, _ in measured]
    rows.sort(key=lambda row: titles.index(row[0]))
    header = ["Scenario", "Program", "Wall clock, s", "CPU, s", "Peak memory, MiB", "Records/s"]
    header.append("× CloudQuery's speed")
    reach = [
        [goal.text, goal.figure, "yes" if goal.reached else "**no**"] for goal in goals(measured)
    ]
    text = TEMPLATE.format(
        rounds=len(measured[START, OURS]),
        cores=os.cpu_count(),
        python=platform.python_version(),
        singer=version("singer-sdk"),
        cloudquery=CLOUDQUERY_VERSION,
        requests=version("requests"),
        reach=table(["Goal", "Measured", "Reached"], reach),
        table=table(header, rows),
        in_flight=IN_FLIGHT,
    )
    (FOLDER / "RESULTS.md").write_text(text, encoding="utf-8")
    chart(measured)


def rates(scenario: Scenario, usages: list[Usage]) -> list[float]:
    """Return the records per second of whole runs, round by round."""
    records = scenario.expected().total()
    return [records / usage.wall for usage in usages]


def chart(measured: Measured) -> None:
    """Draw `results.svg`."""

    def panel(
        scenario: Scenario,
        better: str,
        form: str,
        figures: Callable[[list[Usage]], list[float]],
        pair: tuple[Contender, Contender] = (OURS, PEER),
    ) -> Panel:
        bars = [Bar(each.label, each.color, figures(measured[scenario, each])) for each in pair]
        return Panel(scenario.title, better, form, bars)

    def wall(usages: list[Usage]) -> list[float]:
        return [usage.wall for usage in usages]

    def peak(usages: list[Usage]) -> list[float]:
        return [usage.peak for usage in usages]

    def records(usages: list[Usage]) -> list[float]:
        return rates(NO_LATENCY, usages)

    comics = panel(FIVE_HUNDRED_COMICS, "less time", "{:.2f} s", wall)
    one_by_one = panel(FIVE_HUNDRED_COMICS, "less time", "{:.1f} s", wall, (OURS_ALONE, PEER_ALONE))
    draw(
        "HTTP sources: tap-oso-example and CloudQuery's Python SDK",
        f"{IN_FLIGHT} requests in flight unless said otherwise; whole processes; "
        "median, and range of the rounds",
        [
            comics._replace(limit=WAITING, limit_label="the waiting alone"),
            panel(RELEASES, "less time", "{:.2f} s", wall),
            panel(NO_LATENCY, "more", "{:,.0f} records/s", records),
            panel(NO_LATENCY, "less memory", "{:,.0f} MiB", peak),
            one_by_one._replace(title=f"{one_by_one.title}, one request at a time"),
        ],
        FOLDER / "results.svg",
    )


TEMPLATE = """\
# HTTP sources: results

Written by `make bench-http` (`uv run --group bench python -m benchmarks.http_source`).

![Chart of the figures below](results.svg)

## Reach

{reach}

## Figures

Median and range of {rounds} rounds; one request at a time was measured in the first. The last
column compares with CloudQuery's SDK at {in_flight} requests in flight, in the same round.

{table}

## How it was measured

- In each round every program syncs every scenario, one after the other. A program is measured from
  its start to its end: wall clock, CPU of user and system, peak resident memory. The server
  (`sandbox http`) is a process of its own; both share {cores} cores with other work, so ratios say
  more than seconds.
- "8 × 20 repositories" are those of 8 organizations, with 3 releases each; the 80,800 records are
  8 × 100 repositories with 100 releases each.
- Every run is checked: the keys that came out are those that the server has, each once, with the
  same columns from both programs. Both write JSON lines to a file.
- Start-up is a run with nothing to fetch: one request that says that there are no comics.
- `tap-oso-example` runs as installed, with `concurrency` {in_flight} or 1; Python {python},
  singer-sdk {singer}, requests {requests}.
- CloudQuery's side is [`cloudquery_plugin.py`](cloudquery_plugin.py) on cloudquery-plugin-sdk
  {cloudquery} with the same Python and requests: the same tables, columns, pages and connections,
  synced in its own process, so without the cost of its CLI and of gRPC. Its natural way to fetch
  comics is one after the other ("one shard"); else they are multiplexed into {in_flight} shards,
  which gives up their order. Its scheduler is told a width that has {in_flight} requests for
  releases in flight. Times are parsed before the SDK gets them, because the SDK takes 50 times as
  long.
- CloudQuery's SDK neither retries nor keeps order; the tap does both, and writes its bookmarks. The
  plugin has requests repeat what a closed connection cut, or some syncs would end early.
"""
