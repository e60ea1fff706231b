"""The embedded BigQuery starts, stops, dies and comes back."""

from pathlib import Path

import pytest
from google.api_core.exceptions import GoogleAPICallError

from sandbox.bigquery import BigQueryEmulator, BigQueryEmulatorError


def rows(emulator: BigQueryEmulator) -> list[int]:
    client = emulator.client()
    found = [row[0] for row in client.query("SELECT id FROM d.t ORDER BY id").result()]
    client.close()  # type: ignore[no-untyped-call]
    return found


def fill(emulator: BigQueryEmulator) -> None:
    client = emulator.client()
    client.create_dataset("d")
    client.query("CREATE TABLE d.t AS SELECT 1 AS id UNION ALL SELECT 2").result()
    client.close()  # type: ignore[no-untyped-call]


def test_a_data_folder_survives_a_restart_and_a_kill(tmp_path: Path) -> None:
    with BigQueryEmulator(tmp_path / "data") as emulator:
        fill(emulator)
        url, pid = emulator.url, emulator.pid
        emulator.restart()
        assert rows(emulator) == [1, 2]
        assert emulator.url == url
        assert emulator.pid != pid
        emulator.kill()
        assert emulator.pid is None
        emulator.start()
        assert rows(emulator) == [1, 2]
    assert emulator.pid is None


def test_without_a_data_folder_a_restart_forgets() -> None:
    with BigQueryEmulator() as emulator:
        fill(emulator)
        emulator.restart()
        with pytest.raises(GoogleAPICallError):
            rows(emulator)


def test_a_port_in_use_is_an_error() -> None:
    with (
        BigQueryEmulator() as emulator,
        pytest.raises(BigQueryEmulatorError, match="answers on port"),
    ):
        BigQueryEmulator(port=emulator.port).start()


def test_a_stopped_emulator_cant_be_paused() -> None:
    with pytest.raises(BigQueryEmulatorError, match="not running"):
        BigQueryEmulator().pause()
