"""What may be written in the settings, ours and those of variant z3z1ma."""

from typing import Any

import pytest

from target_bigquery.errors import TargetError
from target_bigquery.settings import Partitioning, Settings, environment_settings, settings

BASE = {"project": "p", "dataset": "d"}


def read(**config: Any) -> Settings:
    return settings({**BASE, **config}, {})


def test_defaults() -> None:
    found = read()
    assert found.write_mode.of("s") == "upsert"
    assert (found.delete_mode, found.missing_properties.of("s")) == ("soft", "null")
    assert (found.location, found.column_names, found.add_record_metadata) == ("US", "as_is", True)
    assert found.clustering.of("s") is None
    assert found.emulator is None


def test_the_environment_variable_means_the_emulator() -> None:
    assert settings(BASE, {"BIGQUERY_EMULATOR_HOST": "http://x:1"}).emulator == "http://x:1"


def test_the_first_matching_pattern_decides() -> None:
    found = read(write_mode={"events-*": "append", "*": "upsert"})
    assert [found.write_mode.of(name) for name in ("events-x", "x")] == ["append", "upsert"]


def test_objects_may_come_as_json_from_the_environment() -> None:
    found = read(
        write_mode='{"events-*": "append"}',
        clustering='{"s": ["a", "b"]}',
        partitioning='{"s": {"column": "at", "granularity": "month"}}',
    )
    assert found.write_mode.of("events-x") == "append"
    assert found.clustering.of("s") == ("a", "b")
    assert found.partitioning.of("s") == Partitioning("at", "month")
    assert read(job_labels='{"team": "a-1"}').job_labels == {"team": "a-1"}
    assert read(clustering="a, b").clustering.of("s") == ("a", "b")


def test_patterns_with_dots_come_nested_from_meltano() -> None:
    found = read(write_mode={"public": {"events": "append"}})
    assert found.write_mode.of("public.events") == "append"


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        ({"batch_size": 500}, "flush_rows", 500),
        ({"upsert": True}, "write_mode", "upsert"),
        ({"upsert": "false"}, "write_mode", "append"),
        ({"cluster_on_key_properties": True}, "clustering", None),
        ({"cluster_on_key_properties": False}, "clustering", ()),
        ({"partition_granularity": "day"}, "partitioning", Partitioning("_sdc_batched_at", "day")),
    ],
)
def test_names_of_the_other_variant_that_mean_the_same(
    config: dict[str, Any], name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found = getattr(read(**config), name)
    assert (found.of("s") if hasattr(found, "of") else found) == value
    assert f"use {name!r}" in caplog.text


def test_upsert_by_a_list_of_streams() -> None:
    found = read(upsert=["a*"]).write_mode
    assert (found.of("ab"), found.of("b")) == ("upsert", "append")


def test_our_own_name_beats_the_other_variants() -> None:
    assert read(batch_size=500, flush_rows=7).flush_rows == 7


def test_what_this_variant_does_anyway_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    read(denormalized=True, method="storage_write_api", dedupe_before_upsert="true")
    assert caplog.text.count("is not needed") == 3


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"denormalized": False}, "one JSON column"),
        ({"overwrite": True}, "ACTIVATE_VERSION"),
        ({"generate_view": "true"}, "a view is not needed"),
        ({"partition_expiration_days": 7}, "rows would disappear"),
        ({"column_name_transforms": {"lower": True}}, "column_names"),
        ({"stream_maps": {"a": {"b": "c"}}}, "mapper"),
        ({"write_mode": "replace"}, "'replace': must be upsert or append"),
        ({"write_mode": {"a": "b"}}, "'b': must be upsert or append"),
        ({"delete_mode": "never"}, "must be soft or hard"),
        ({"column_names": "upper"}, "must be as_is or snake_case"),
        ({"missing_properties": "drop"}, "must be null or keep"),
        ({"flush_rows": 0}, "'flush_rows' is 0: must be a number above 0"),
        ({"clustering": ["a", "b", "c", "d", "e"]}, "at most 4"),
        ({"clustering": "{"}, "not valid JSON"),
        ({"partitioning": {"s": {}}}, "must give a column"),
        ({"partitioning": {"s": {"column": "a", "granularity": "week"}}}, "'week'"),
        ({"project": None}, "'project' is missing"),
        ({"staging_dataset": "a-b"}, "'staging_dataset' is 'a-b': must be letters"),
        ({"impersonate_service_account": "me"}, "must be the e-mail address"),
        ({"kms_key_name": "key"}, "cryptoKeys"),
        ({"job_labels": {"Team": "x"}}, "'job_labels' has 'Team'"),
        ({"job_labels": {"run": "x"}}, "set for each job"),
        ({"job_labels": "x"}, "must be an object"),
        ({"maximum_bytes_billed": -1}, "must be a number above 0"),
    ],
)
def test_what_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(TargetError, match=says) as caught:
        read(**config)
    assert "\n" not in str(caught.value)


def test_falsy_settings_of_the_other_variant_are_no_reason_to_refuse() -> None:
    read(overwrite=False, generate_view="false", column_name_transforms={"lower": False})


def test_settings_of_the_environment_are_what_their_text_says() -> None:
    texts = {
        "PROJECT": "p",
        "DATASET": "d",
        "ORDER_BY_STRING": '{"s*": true}',
        "UPSERT": '["a", "b"]',
        "CLUSTERING": "x,y",
        "CREDENTIALS_JSON": '{"type": "k"}',
        "FLUSH_ROWS": "5",
        "ADD_RECORD_METADATA": "False",
    }
    environ = {f"TARGET_BIGQUERY_{name}": text for name, text in texts.items()}
    found = settings(environment_settings(environ), {})
    assert [found.order_by_string.of(name) for name in ("s1", "x")] == [True, False]
    assert [found.write_mode.of(name) for name in ("a", "c")] == ["upsert", "append"]
    assert found.clustering.of("any") == ("x", "y")
    assert found.credentials_json == '{"type": "k"}'
    assert (found.flush_rows, found.add_record_metadata) == (5, False)


@pytest.mark.parametrize("name", ["CREDENTIALS_JSON", "CLUSTERING", "ORDER_BY_STRING"])
def test_a_setting_of_broken_json_is_named_and_not_shown(name: str) -> None:
    environ = {"TARGET_BIGQUERY_PROJECT": "p", "TARGET_BIGQUERY_DATASET": "d"}
    with pytest.raises(TargetError, match=f"setting '{name.lower()}' is not valid JSON") as why:
        settings(environment_settings({**environ, f"TARGET_BIGQUERY_{name}": '{"hidden'}), {})
    assert "hidden" not in str(why.value)
