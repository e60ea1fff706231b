"""The settings: what a user may write, and what the loader is given.

The names of variant z3z1ma that mean the same are taken, with a notice of the new name; those that
would change what ends up in the tables are refused.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

from singer_sdk import typing as th

from target_bigquery.errors import TargetError

VARIABLE_PREFIX = "TARGET_BIGQUERY_"
EMULATOR_VARIABLE = "BIGQUERY_EMULATOR_HOST"
LONGEST_CLUSTERING = 4
LONGEST_LABEL = 63
GRANULARITIES = ("hour", "day", "month", "year")

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class ByStream(Generic[T]):
    """A setting by stream: the first shell pattern that matches the stream's name decides."""

    patterns: tuple[tuple[str, T], ...]
    default: T

    def of(self, stream: str) -> T:
        """Return the value for a stream."""
        return next(
            (v for pattern, v in self.patterns if fnmatchcase(stream, pattern)), self.default
        )


@dataclass(frozen=True)
class Partitioning:
    """Partitions by a column: https://cloud.google.com/bigquery/docs/partitioned-tables."""

    column: str
    granularity: str = "day"


@dataclass(frozen=True)
class Settings:
    """The checked settings."""

    project: str
    dataset: str
    location: str
    credentials_path: str | None
    credentials_json: str | None
    impersonate_service_account: str | None
    quota_project: str | None
    emulator: str | None
    staging_dataset: str | None
    kms_key_name: str | None
    job_labels: dict[str, str]
    maximum_bytes_billed: int | None
    write_mode: ByStream[str]
    delete_mode: str
    missing_properties: ByStream[str]
    order_by_string: ByStream[bool]
    on_bad_value: str
    on_type_change: str
    flush_rows: int
    flush_bytes: int
    flush_seconds: int
    clustering: ByStream[tuple[str, ...] | None]  # None: the keys
    partitioning: ByStream[Partitioning | None]
    add_record_metadata: bool
    column_names: str


# https://cloud.google.com/resource-manager/docs/creating-managing-projects#before_you_begin
# https://cloud.google.com/bigquery/docs/datasets#dataset-naming
_NAMES = {
    "project": (
        re.compile(r"[a-z][a-z0-9.:-]*"),
        "the ID of a project, such as my-project-123, which is not its name",
    ),
    "dataset": (re.compile(r"\w{1,1024}", re.ASCII), "letters, digits and underscores"),
}
# Of settings that may be missing.
_FORMS = {
    "staging_dataset": _NAMES["dataset"],
    "quota_project": _NAMES["project"],
    "impersonate_service_account": (
        re.compile(r"[^@\s]+@[^@\s]+"),
        "the e-mail address of a service account",
    ),
    "kms_key_name": (
        re.compile(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+"),
        "projects/…/locations/…/keyRings/…/cryptoKeys/…",
    ),
}
# https://cloud.google.com/bigquery/docs/labels-intro#requirements
_LABEL = (re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}"))
_OWN_LABELS = ("stream", "run")
_MODE_BY_STREAM = 'or an object of stream patterns and modes, for example {"events-*": "append"}'
_GRANULARITY = th.StringType(allowed_values=list(GRANULARITIES))


_FLAG_OR_OBJECT = th.CustomType({"type": ["boolean", "string", "object", "null"]})
_TEXT_OR_OBJECT = th.CustomType({"type": ["string", "object", "null"]})
_PARTITIONING = th.CustomType({"type": ["object", "string", "null"]})
_CLUSTERING = th.CustomType({"type": ["array", "object", "string", "null"]})
_FLAG = th.CustomType({"type": ["boolean", "string", "null"]})
_FLAG_OR_STREAMS = th.CustomType({"type": ["boolean", "string", "array", "null"]})

SCHEMA: dict[str, Any] = th.PropertiesList(
    th.Property(
        "project", th.StringType, required=True, description="Google Cloud project of the dataset."
    ),
    th.Property(
        "dataset",
        th.StringType,
        required=True,
        description="Dataset to load into; it is made if it does not exist.",
    ),
    th.Property(
        "location", th.StringType, default="US", description="Where a new dataset is made."
    ),
    th.Property(
        "credentials_path",
        th.StringType,
        description="Path of a file with credentials: a service account's key, a user's "
        "application default credentials, a workload identity. Default: application default "
        "credentials.",
    ),
    th.Property(
        "credentials_json",
        th.CustomType({"type": ["string", "object", "null"]}),
        secret=True,
        description="The content of such a file.",
    ),
    th.Property(
        "impersonate_service_account",
        th.StringType,
        description="E-mail address of a service account to act as; the credentials need the role "
        "Service Account Token Creator on it.",
    ),
    th.Property(
        "quota_project",
        th.StringType,
        description="Project that API calls are counted against. Default: that of the credentials.",
    ),
    th.Property(
        "staging_dataset",
        th.StringType,
        description="Dataset for staging tables, in the same location; it is made, with a default "
        "table expiration of a day, if it does not exist. Default: `dataset`.",
    ),
    th.Property(
        "kms_key_name",
        th.StringType,
        description="Cloud KMS key that datasets and tables made by the loader are encrypted with: "
        "projects/…/locations/…/keyRings/…/cryptoKeys/….",
    ),
    th.Property(
        "job_labels",
        th.CustomType({"type": ["object", "string", "null"]}),
        description="Labels of every job beside `stream` and `run`, to tell cost by: "
        '{"team": "data"}.',
    ),
    th.Property(
        "maximum_bytes_billed",
        th.IntegerType,
        description="A statement that would bill more bytes is refused, and the run ends.",
    ),
    th.Property(
        "write_mode",
        _TEXT_OR_OBJECT,
        default="upsert",
        description="`upsert` (one row per key; a stream without keys is appended) or `append`, "
        f"{_MODE_BY_STREAM}.",
    ),
    th.Property(
        "delete_mode",
        th.StringType(allowed_values=["soft", "hard"]),
        default="soft",
        description="`soft` marks deleted rows and keeps their values, `hard` removes them.",
    ),
    th.Property(
        "missing_properties",
        _TEXT_OR_OBJECT,
        default="null",
        description="What a property that a record does not have means: `null`, or `keep` what is "
        "stored; or an object of stream patterns.",
    ),
    th.Property(
        "order_by_string",
        _FLAG_OR_OBJECT,
        default=False,
        description="The text of a stream's bookmark sorts as what it stands for, so that it can "
        "say which of two records is newer; or an object of stream patterns. Without it such "
        "streams go by the order of arrival.",
    ),
    th.Property(
        "on_bad_value",
        th.StringType(allowed_values=["null", "fail"]),
        default="null",
        description="What happens to a value that its column can't hold: it becomes `null`, "
        "counted in a warning, or the run ends (`fail`). Keys and marks of deletes always end it.",
    ),
    th.Property(
        "on_type_change",
        th.StringType(allowed_values=["convert", "fail"]),
        default="convert",
        description="What happens to a column that can't be widened to the type that the stream "
        "now sends: its table is rewritten (`convert`), or the run ends (`fail`).",
    ),
    th.Property(
        "flush_rows",
        th.IntegerType,
        default=1_000_000,
        description="Load when this many records are waiting.",
    ),
    th.Property(
        "flush_bytes",
        th.IntegerType,
        default=256 * 1024 * 1024,
        description="Load when this many bytes of input are waiting.",
    ),
    th.Property(
        "flush_seconds",
        th.IntegerType,
        default=60,
        description="Load when the oldest record has waited this long.",
    ),
    th.Property(
        "clustering",
        _CLUSTERING,
        description="Columns to cluster new tables by, at most 4, or an object of stream patterns "
        "and columns. Default: the keys.",
    ),
    th.Property(
        "partitioning",
        _PARTITIONING,
        description='Stream patterns and how to partition new tables: {"events": {"column": '
        '"created_at", "granularity": "day"}}; granularity is hour, day, month or year.',
    ),
    th.Property(
        "add_record_metadata",
        th.BooleanType,
        default=True,
        description="Add the columns _sdc_extracted_at, _sdc_received_at, _sdc_batched_at, "
        "_sdc_sequence and _sdc_table_version.",
    ),
    th.Property(
        "column_names",
        th.StringType(allowed_values=["as_is", "snake_case"]),
        default="as_is",
        description="`as_is`, or `snake_case` for userId → user_id.",
    ),
    *(
        th.Property(name, kind, description=f"Of variant z3z1ma: {meaning}.")
        for name, kind, meaning in (
            ("batch_size", th.IntegerType, "use `flush_rows`"),
            ("denormalized", _FLAG, "true is what this variant does"),
            ("upsert", _FLAG_OR_STREAMS, "use `write_mode`"),
            ("cluster_on_key_properties", _FLAG, "use `clustering`"),
            ("partition_granularity", _GRANULARITY, "use `partitioning`"),
            ("method", th.StringType, "this variant always uses load jobs"),
            ("overwrite", _FLAG_OR_STREAMS, "refused"),
            ("generate_view", _FLAG, "refused"),
            ("dedupe_before_upsert", _FLAG_OR_STREAMS, "this variant always does"),
            (
                "column_name_transforms",
                th.CustomType({"type": ["object", "null"]}),
                "use `column_names`",
            ),
            ("partition_expiration_days", th.IntegerType, "refused"),
        )
    ),
).to_dict()


def environment_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the environment: text where text may be meant, else what it says."""
    found: dict[str, Any] = {}
    for name, declared in SCHEMA["properties"].items():
        text = environ.get(f"{VARIABLE_PREFIX}{name.upper()}")
        if text is None:
            continue
        found[name] = text
        if "string" not in declared["type"]:
            with contextlib.suppress(ValueError):  # then the SDK says what is wrong with it
                found[name] = json.loads(text.lower())
    return found


def settings(config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Check the configuration and return it in the loader's form.

    Raises:
        TargetError: a setting is missing, can't be understood, or would mean something else than
        with variant z3z1ma.
    """
    environ = os.environ if environ is None else environ
    config = {name: _parsed(name, value) for name, value in config.items() if value is not None}
    config = _with_new_names(config)
    _refuse_others(config)
    for name, (form, description) in _NAMES.items():
        value = config.get(name)
        if not value:
            raise TargetError(f"setting {name!r} is missing")
        if not form.fullmatch(value):
            raise TargetError(f"setting {name!r} is {value!r}: must be {description}")
    for name, (form, description) in _FORMS.items():
        if config.get(name) and not form.fullmatch(str(config[name])):
            raise TargetError(f"setting {name!r} is {config[name]!r}: must be {description}")
    write_mode = _modes(config, "write_mode", "upsert", ("upsert", "append"))
    missing = _modes(config, "missing_properties", "null", ("null", "keep"))
    delete_mode = _choice("delete_mode", config.get("delete_mode", "soft"), ("soft", "hard"))
    column_names = _choice(
        "column_names", config.get("column_names", "as_is"), ("as_is", "snake_case")
    )
    return Settings(
        project=config["project"],
        dataset=config["dataset"],
        location=config.get("location") or "US",
        credentials_path=config.get("credentials_path") or None,
        credentials_json=_json_text(config.get("credentials_json")),
        impersonate_service_account=config.get("impersonate_service_account") or None,
        quota_project=config.get("quota_project") or None,
        emulator=environ.get(EMULATOR_VARIABLE) or None,
        staging_dataset=config.get("staging_dataset") or None,
        kms_key_name=config.get("kms_key_name") or None,
        job_labels=_labels(config.get("job_labels")),
        maximum_bytes_billed=_positive(config, "maximum_bytes_billed", 0)
        if config.get("maximum_bytes_billed") not in {None, ""}
        else None,
        write_mode=write_mode,
        delete_mode=delete_mode,
        missing_properties=missing,
        order_by_string=_flags(config, "order_by_string"),
        on_bad_value=_choice("on_bad_value", config.get("on_bad_value", "null"), ("null", "fail")),
        on_type_change=_choice(
            "on_type_change", config.get("on_type_change", "convert"), ("convert", "fail")
        ),
        flush_rows=_positive(config, "flush_rows", 1_000_000),
        flush_bytes=_positive(config, "flush_bytes", 256 * 1024 * 1024),
        flush_seconds=_positive(config, "flush_seconds", 60),
        clustering=_clustering(config.get("clustering")),
        partitioning=_partitioning(config.get("partitioning")),
        add_record_metadata=_flag("add_record_metadata", config.get("add_record_metadata", True)),
        column_names=column_names,
    )


def _with_new_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with z3z1ma's names replaced by ours."""
    for old, new in (
        ("batch_size", "flush_rows"),
        ("upsert", "write_mode"),
        ("cluster_on_key_properties", "clustering"),
        ("partition_granularity", "partitioning"),
    ):
        if old not in config:
            continue
        value = _translated(old, config.pop(old))
        if new in config and config[new] != _DEFAULTS.get(new):
            logger.warning("setting %r is not used: %r is set", old, new)
            continue
        logger.warning(
            "setting %r is the name of another variant: use %r: %s", old, new, json.dumps(value)
        )
        config[new] = value
    for name, reason in _NOT_NEEDED.items():
        if name in config and not (name == "denormalized" and not _flag(name, config[name])):
            config.pop(name)
            logger.warning("setting %r is not needed: %s", name, reason)
    return config


_DEFAULTS = {"write_mode": "upsert", "flush_rows": 1_000_000}
_NOT_NEEDED = {
    "denormalized": "each property has a column of its own",
    "method": "rows always go in by load jobs",
    "dedupe_before_upsert": "records of one key are always combined before they are merged",
}


def _translated(old: str, value: Any) -> Any:
    match old:
        case "upsert":
            if isinstance(value, list):
                return {**dict.fromkeys(map(str, value), "upsert"), "*": "append"}
            return "upsert" if _flag(old, value) else "append"
        case "cluster_on_key_properties":
            return None if _flag(old, value) else []
        case "partition_granularity":
            return {"*": {"column": "_sdc_batched_at", "granularity": value}}
    return value


_REFUSED = {
    "overwrite": "send a full copy with ACTIVATE_VERSION, or drop the table first",
    "generate_view": "each property has a column of its own, a view is not needed",
    "partition_expiration_days": "rows would disappear; set it on the table in BigQuery",
    "column_name_transforms": "use column_names: as_is or snake_case",
    "stream_maps": "put a mapper between tap and target",
    "flattening_enabled": "objects are loaded as JSON; put a mapper between tap and target",
    "bucket": "load jobs upload their files themselves",
}


def _refuse_others(config: Mapping[str, Any]) -> None:
    if "denormalized" in config:
        raise TargetError(
            "setting 'denormalized': false would keep whole records in one JSON column, which this "
            "variant does not do; remove it, or use variant z3z1ma"
        )
    for name, advice in _REFUSED.items():
        value = config.get(name)
        if isinstance(value, dict):
            value = any(_truthy(part) for part in value.values())
        if _truthy(value):
            raise TargetError(f"setting {name!r} has another meaning here or none: {advice}")


def _truthy(value: Any) -> bool:
    return bool(value) and str(value).lower() not in {"false", "0", "no"}


def _parsed(name: str, value: Any) -> Any:
    """Return a value from the environment as what its JSON says, other text as it is."""
    if isinstance(value, str) and value.strip()[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except ValueError as error:
            raise TargetError(f"setting {name!r} is not valid JSON: {error}") from None
    return value


def _json_text(value: Any) -> str | None:
    return json.dumps(value) if isinstance(value, Mapping) else value or None


def _modes(
    config: Mapping[str, Any], name: str, default: str, allowed: tuple[str, ...]
) -> ByStream[str]:
    value = config.get(name, default)
    if isinstance(value, Mapping):
        patterns = tuple((pattern, _choice(name, mode, allowed)) for pattern, mode in _flat(value))
        return ByStream(patterns, default)
    return ByStream((), _choice(name, value, allowed))


def _flags(config: Mapping[str, Any], name: str) -> ByStream[bool]:
    value = config.get(name, False)
    if isinstance(value, Mapping):
        patterns = tuple((pattern, _flag(name, flag)) for pattern, flag in _flat(value))
        return ByStream(patterns, default=False)
    return ByStream((), _flag(name, value))


def _flat(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield patterns and values; Meltano takes a pattern with dots for objects within objects."""
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from ((f"{name}.{rest}", inner) for rest, inner in _flat(part))
        else:
            yield name, part


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise TargetError(f"setting {name!r} is {value!r}: must be {' or '.join(allowed)}")
    return str(value)


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in {"true", "1", "yes"}:
        return True
    if text in {"false", "0", "no"}:
        return False
    raise TargetError(f"setting {name!r} is {value!r}: must be true or false")


def _positive(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0
    if number <= 0:
        raise TargetError(f"setting {name!r} is {value!r}: must be a number above 0")
    return int(number) if number >= 1 else 1


def _labels(value: Any) -> dict[str, str]:
    value = value or {}
    if not isinstance(value, Mapping):
        raise TargetError('setting \'job_labels\' must be an object such as {"team": "data"}')
    key_form, value_form = _LABEL
    labels = {str(name): str(label) for name, label in value.items()}
    for name, label in labels.items():
        if name in _OWN_LABELS:
            raise TargetError(f"setting 'job_labels' has {name!r}, which is set for each job")
        if not key_form.fullmatch(name) or not value_form.fullmatch(label):
            raise TargetError(
                f"setting 'job_labels' has {name!r}: {label!r}: lower-case letters, digits, - and "
                f"_ only, at most {LONGEST_LABEL}, and a name begins with a letter"
            )
    return labels


def _clustering(value: Any) -> ByStream[tuple[str, ...] | None]:
    if value is None:
        return ByStream((), None)
    if isinstance(value, Mapping):
        return ByStream(
            tuple((pattern, _columns(columns)) for pattern, columns in value.items()), None
        )
    return ByStream((), _columns(value))


def _columns(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else map(str, value)
    columns = tuple(part.strip() for part in parts if part.strip())
    if len(columns) > LONGEST_CLUSTERING:
        raise TargetError(
            f"setting 'clustering' has {len(columns)} columns: BigQuery clusters by at most 4"
        )
    return columns


def _partitioning(value: Any) -> ByStream[Partitioning | None]:
    if value is None:
        return ByStream((), None)
    if not isinstance(value, Mapping):
        raise TargetError("setting 'partitioning' must be an object of stream patterns")
    if "column" in value and not isinstance(value["column"], Mapping):
        value = {"*": value}
    return ByStream(tuple((pattern, _partition(part)) for pattern, part in value.items()), None)


def _partition(value: Any) -> Partitioning:
    if isinstance(value, str):
        return Partitioning(value)
    if not isinstance(value, Mapping) or not value.get("column"):
        raise TargetError(
            'setting \'partitioning\' must give a column: {"stream": {"column": "created_at"}}'
        )
    granularity = str(value.get("granularity", "day")).lower()
    if granularity not in GRANULARITIES:
        raise TargetError(
            f"setting 'partitioning' has granularity {granularity!r}: must be one of "
            f"{', '.join(GRANULARITIES)}"
        )
    return Partitioning(str(value["column"]), granularity)
