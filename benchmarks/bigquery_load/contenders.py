"""The loaders that are compared, each in an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from sandbox.peers import make_environment, make_own_environment

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "load" / "target-bigquery"
PROJECT = "bench"
Z3 = ["z3-target-bigquery==0.7.2", "setuptools<81"]
DLT = ["dlt[bigquery]==1.31.0", "orjson==3.13.0", "pyarrow==26.0.1"]


class Contender(NamedTuple):
    """A loader with its settings."""

    name: str
    label: str
    color: str
    batch_size: int | None = None

    def prepare(self) -> Path:
        """Make its environment and return that environment's Python."""
        if self.name == "ours":
            return make_own_environment(PACKAGE)
        if self.name == "dlt":
            return make_environment("dlt", DLT)
        return make_environment("z3-target-bigquery", Z3)

    def command(self, mode: str, source: Path, folder: Path) -> list[str]:
        """Return the command that loads a file into the dataset that is named as the mode."""
        python = self.prepare()
        if self.name == "dlt":
            return [str(python), str(HERE / "peer_dlt.py"), str(source), mode, mode, str(folder)]
        settings: dict[str, object] = {"project": PROJECT, "dataset": mode}
        program = [str(python.with_name("target-bigquery"))]
        if self.name == "ours":
            settings |= {"write_mode": mode}
        else:
            upsert = mode == "upsert"
            settings |= {"method": "batch_job", "denormalized": True}
            settings |= {"upsert": upsert, "dedupe_before_upsert": upsert}
            settings |= {"batch_size": self.batch_size} if self.batch_size else {}
            program = [str(python), str(HERE / "peer_z3.py")]
        config = folder / "config.json"
        config.write_text(json.dumps(settings))
        return [*program, "--config", str(config), "--input", str(source)]


OURS = Contender("ours", "target-bigquery (oso)", "#2f6f9f")
Z3_LARGE = Contender(
    "z3", "z3-target-bigquery 0.7.2, batches of 100,000", "#b8c4ce", batch_size=100_000
)
Z3_DEFAULT = Contender("z3", "z3-target-bigquery 0.7.2, as it comes", "#9fb0bd")
DLT_JSONL = Contender("dlt", "dlt 1.31.0", "#d9b48f")
CONTENDERS = (OURS, Z3_LARGE, Z3_DEFAULT, DLT_JSONL)
