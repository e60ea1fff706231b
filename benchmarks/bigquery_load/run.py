"""Loads the same Singer file with this project's target, z3-target-bigquery and dlt, side by side.

    .venv/bin/python benchmarks/bigquery_load/run.py [--records 500000] [--large 5000000]

Each loads into a new embedded BigQuery, append and upsert; the rows are counted afterwards. CPU
seconds and peak memory are the operating system's, for the loading process and its children,
imports and start included. Environments for all three are made with uv under `output/`. Writes
RESULTS.md and results.svg beside this file.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import matplotlib as mpl

from sandbox.bigquery import BigQueryEmulator
from sandbox.singer import INTEGER, MOMENT, NUMBER, OBJECT, TEXT, decimal, schema, state

mpl.use("svg")
from matplotlib import pyplot as plt  # needs to know first that there is no screen

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UV = ROOT / ".tools" / "bin" / "uv"
ENVIRONMENTS = ROOT / "output" / "bench-bigquery-load"
PACKAGES = {
    "ours": [str(ROOT / "load" / "target-bigquery")],
    "z3": ["z3-target-bigquery==0.7.2", "setuptools<81"],
    "dlt": ["dlt[bigquery]==1.31.0", "orjson", "pyarrow"],
}
NAMES = {
    "ours": "target-bigquery (oso)",
    "z3": "z3-target-bigquery 0.7.2, batches of 100,000",
    "z3-small": "z3-target-bigquery 0.7.2, its default",
    "dlt": "dlt 1.31.0",
}
SMALLER = {"z3-small": 10}  # a load job per 500 records takes the emulator long: a tenth will do
PROJECT = "bench"
WORDS = [
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
]
PROPERTIES = {
    "id": INTEGER,
    "project_id": INTEGER,
    "amount": decimal(38, 9),
    "score": NUMBER,
    "valid": {"type": ["boolean", "null"]},
    "title": TEXT,
    "body": TEXT,
    "tags": OBJECT,
    "created_at": MOMENT,
    "day": {"type": ["string", "null"], "format": "date"},
}


@dataclass(frozen=True)
class Result:
    """One load."""

    tool: str
    mode: str
    records: int
    seconds: float
    cpu: float
    megabytes: float

    @property
    def micros(self) -> float:
        """CPU microseconds per record."""
        return self.cpu / self.records * 1e6


def messages(records: int) -> Iterator[str]:
    """Yield the lines of the input: 10 columns, about 400 bytes a record, a STATE every 10,000."""
    yield json.dumps(schema("votes", PROPERTIES))
    for n in range(records):
        day = f"2024-{n % 12 + 1:02d}-{n % 28 + 1:02d}"
        body = " ".join(WORDS[(n + k) % len(WORDS)] for k in range(12))
        yield (
            f'{{"type":"RECORD","stream":"votes","record":{{"id":{n},"project_id":{n % 5000},'
            f'"amount":"{n * 7919 % 10**12}.{n % 10**9:09d}","score":{n * 0.37!r},'
            f'"valid":{"true" if n % 3 else "false"},"title":"{WORDS[n % len(WORDS)]} {n}",'
            f'"body":"{body}","tags":{{"k":"v{n % 100}","n":[1,2,{n % 7}]}},'
            f'"created_at":"{day}T{n % 24:02d}:{n % 60:02d}:{n % 60:02d}.{n % 10**6:06d}Z",'
            f'"day":"{day}"}},"time_extracted":"2024-05-01T00:00:00.000000Z"}}'
        )
        if n % 10_000 == 9_999:
            yield json.dumps(state({"id": n}))


def write_input(path: Path, records: int) -> None:
    """Write the input file."""
    with path.open("w") as file:
        file.writelines(f"{line}\n" for line in messages(records))


def make_environment(tool: str) -> None:
    """Make the tool's environment."""
    folder = ENVIRONMENTS / tool
    if not folder.exists():
        subprocess.run([UV, "venv", "--quiet", folder], check=True)
    python = folder / "bin" / "python"
    install: list[str | Path] = [
        UV,
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        *PACKAGES[tool],
    ]
    refresh = ["--reinstall-package", "target-bigquery"] if tool == "ours" else []
    subprocess.run([*install, *refresh], check=True)


def command(tool: str, programs: Path, mode: str, source: Path, home: Path) -> list[str | Path]:
    """Return the command that loads the file."""
    config = home / "config.json"
    settings: dict[str, object] = {"project": PROJECT, "dataset": mode}
    if tool == "dlt":
        return [programs / "python", HERE / "peer_dlt.py", source, mode, mode, home]
    if tool.startswith("z3"):
        upsert = mode == "upsert"
        settings |= {"method": "batch_job", "denormalized": True}
        settings |= {"batch_size": 100_000} if tool == "z3" else {}
        settings |= {"upsert": upsert, "dedupe_before_upsert": upsert}
        config.write_text(json.dumps(settings))
        return [programs / "python", HERE / "peer_z3.py", "--config", config]
    config.write_text(json.dumps({**settings, "write_mode": mode}))
    return [programs / "target-bigquery", "--config", config]


def load(tool: str, mode: str, records: int, source: Path) -> Result:
    """Load the file into a new emulator and check the number of rows."""
    programs = ENVIRONMENTS / tool.removesuffix("-small") / "bin"
    with (
        tempfile.TemporaryDirectory() as folder,
        BigQueryEmulator(Path(folder) / "data") as emulator,
    ):
        client = emulator.client(PROJECT)
        client.create_dataset(mode, exists_ok=True)
        home = Path(folder)
        run = command(tool, programs, mode, source, home)
        with source.open("rb") as lines, (home / "log").open("wb") as log:
            seconds, usage = measure(run, lines, log, emulator.environ)
        found = next(iter(client.query(f"SELECT COUNT(*) FROM `{PROJECT}.{mode}.votes`").result()))[
            0
        ]
        client.close()  # type: ignore[no-untyped-call]
        if found != records:
            raise SystemExit(f"{tool} {mode}: {found} rows\n{(home / 'log').read_text()[-3000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    result = Result(tool, mode, records, seconds, cpu, usage.ru_maxrss / 1024)
    print(
        f"{tool:8} {mode:7} {records:>9,}: {seconds:.1f} s, {cpu:.2f} s CPU, "
        f"{result.megabytes:.0f} MB"
    )
    return result


def measure(
    run: list[str | Path], source: IO[bytes], log: IO[bytes], environ: dict[str, str]
) -> tuple[float, resource.struct_rusage]:
    """Run a command; return its wall-clock seconds and the resources it used."""
    started = time.monotonic()
    process = subprocess.Popen(
        run, stdin=source, stdout=log, stderr=log, env={**os.environ, **environ}
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        log.flush()
        raise SystemExit(f"{run} failed:\n{Path(log.name).read_text()[-3000:]}")
    return time.monotonic() - started, usage


def table(results: list[Result]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| | mode | records | records/s | CPU s | CPU µs/record | records/CPU s | peak memory |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {NAMES[r.tool]} | {r.mode} | {r.records:,} | {r.records / r.seconds:,.0f} "
        f"| {r.cpu:.2f} | {r.micros:.1f} | {r.records / r.cpu:,.0f} | {r.megabytes:.0f} MB |"
        for r in results
    ]
    return "\n".join(lines)


def chart(results: list[Result], path: Path) -> None:
    """Draw CPU time per record and records per second, tool by tool."""
    tools = list(dict.fromkeys(r.tool for r in results))
    modes = list(dict.fromkeys(r.mode for r in results))
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    height = 0.8 / len(modes)
    for axis, title in zip(axes, ("CPU µs per record", "records per second"), strict=True):
        for index, mode in enumerate(modes):
            mine = {r.tool: r for r in results if r.mode == mode}
            values = [
                mine[t].micros if "CPU" in title else mine[t].records / mine[t].seconds
                for t in tools
            ]
            places = [place + index * height for place in range(len(tools))]
            bars = axis.barh(
                places, values, height, label=mode, color=["#4c72b0", "#dd8452"][index]
            )
            axis.bar_label(
                bars, [f"{value:,.0f}" if value > 99 else f"{value:.1f}" for value in values]
            )
        axis.set_yticks(
            [place + height / 2 for place in range(len(tools))], [NAMES[t] for t in tools]
        )
        axis.invert_yaxis()
        axis.set_title(title)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None})


def report(results: list[Result], large: list[Result]) -> str:
    """Return RESULTS.md."""
    by = {(r.tool, r.mode): r for r in results}
    ratios = [
        f"- {mode}: {by['ours', mode].micros:.1f} µs of CPU per record; per CPU second "
        + ", ".join(
            f"{by[tool, mode].micros / by['ours', mode].micros:.1f} times {NAMES[tool]}"
            for tool in list(NAMES)[1:]
        )
        for mode in ("append", "upsert")
    ]
    growth = [
        f"- {r.mode}: {small.megabytes:.0f} MB for {small.records:,} records, "
        f"{r.megabytes:.0f} MB for {r.records:,}"
        for r in large
        for small in [by["ours", r.mode]]
    ]
    return f"""# bigquery_load

The same Singer file ({results[0].records:,} records of 10 columns, about 400 bytes each) into the
embedded BigQuery, one tool after the other in one run, on {os.cpu_count()} cores of a shared
machine, Python {platform.python_version()}. CPU time and memory are those of the loading process
alone, its start and imports included; records/s includes the emulator's work, and the emulator is
not BigQuery: compare the CPU columns.

![CPU per record and records per second](results.svg)

{table(results + large)}

{chr(10).join(ratios)}

Memory:

{chr(10).join(growth)}

z3-target-bigquery runs with `method: batch_job` and `denormalized`, once with batches of 100,000,
and with a tenth of the records with its default batches of 500; dlt with jsonl files, its default
here. What else was changed to run them against the emulator is in `peer_z3.py` and `peer_dlt.py`.
Made by `benchmarks/bigquery_load/run.py`.
"""


def main() -> None:
    """Measure everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--large", type=int, default=5_000_000, help="for memory; 0 leaves it out")
    options = parser.parse_args()
    if not UV.exists():
        sys.exit("run `make setup` first")
    for tool in PACKAGES:
        make_environment(tool)
    results: list[Result] = []
    large: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "input.singer"
        for mode in ("append", "upsert"):
            for tool in NAMES:
                records = options.records // SMALLER.get(tool, 1)
                write_input(source, records)
                results.append(load(tool, mode, records, source))
        if options.large:
            write_input(source, options.large)
            large = [load("ours", mode, options.large, source) for mode in ("append", "upsert")]
    chart(results, HERE / "results.svg")
    (HERE / "RESULTS.md").write_text(report(results, large))
    shutil.rmtree(ENVIRONMENTS / "home", ignore_errors=True)
    print((HERE / "RESULTS.md").read_text())


if __name__ == "__main__":
    main()
