"""The Singer SDK's own tests of a target."""

from typing import Any

import pytest
from singer_sdk.testing import get_target_test_class

from target_bigquery.target import TargetBigQuery

CONFIG: dict[str, Any] = {"project": "sandbox", "dataset": "standard"}
StandardTests: Any = get_target_test_class(TargetBigQuery, config=CONFIG)


class TestStandard(StandardTests):  # type: ignore[misc]  # the SDK makes it
    @pytest.fixture(autouse=True)
    def _own_dataset(self, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(CONFIG, "project", dataset.project)
        monkeypatch.setitem(CONFIG, "dataset", dataset.name)
