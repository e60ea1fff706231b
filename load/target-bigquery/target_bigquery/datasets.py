"""The datasets of a run: the one that is loaded, and the one that staging tables are made in.

They are made if they are missing. Whatever makes rows disappear by itself is told.
https://cloud.google.com/bigquery/docs/updating-datasets#table-expiration
"""

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from google.api_core import exceptions
from google.cloud import bigquery

from target_bigquery.calls import CALL_TIMEOUT, ONCE, PATIENCE, Calls
from target_bigquery.errors import TargetError
from target_bigquery.names import LONGEST_TABLE, with_digest
from target_bigquery.settings import Settings

STAGING_LIFETIME = timedelta(days=1)
LEFT_OVER = 3600.0  # seconds until a staging table is no more of a run that is still at work
_WITHOUT_BILLING = timedelta(days=60)  # what tables of a project without billing are given

_STAGING = "_sdc_staging_"
_STAGING_END = r"_[0-9a-f]{12}_(?P<made>\d+)_\d+"  # run, when it was made, number
_STAGING_TABLE = re.compile(rf"{_STAGING}.*{_STAGING_END}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Datasets:
    """The datasets of a run.

    Args:
        target: is loaded.
        staging: staging tables are made there.
        staging_expires: a table in there needs no expiry of its own.
        any_case: names of tables mean the same in any case.
        collated: in new tables, what is equal or less is not told by the characters alone.
    """

    target: bigquery.DatasetReference
    staging: bigquery.DatasetReference
    staging_expires: bool = False
    any_case: bool = False
    collated: bool = False

    def of(self, table: str) -> bigquery.DatasetReference:
        """Return the dataset that a table or a staging table is in."""
        return self.staging if _STAGING_TABLE.fullmatch(table) else self.target

    def staging_name(self, table: str, run: str, number: int) -> str:
        """Return the name of a staging table that is made now."""
        return f"{self._staging_prefix(table)}_{run}_{time.time():.0f}_{number}"

    def left_over(self, table: str, names: Iterable[str]) -> list[str]:
        """Return which of the names are staging tables of a table that no run uses any more."""
        pattern = re.compile(re.escape(self._staging_prefix(table)) + _STAGING_END)
        found = [match for name in names if (match := pattern.fullmatch(name))]
        return [match[0] for match in found if int(match["made"]) + LEFT_OVER < time.time()]

    def _staging_prefix(self, table: str) -> str:
        """Return how names begin: tables of several datasets can share one for staging."""
        if self.staging == self.target:
            return f"{_STAGING}{table}"
        whose = f"{self.target.dataset_id}-{table}"
        if len(whose) > LONGEST_TABLE:
            whose = with_digest(whose, whose, LONGEST_TABLE)
        return f"{_STAGING}{whose}"


def datasets(settings: Settings) -> Datasets:
    """Return the datasets that the settings name, before they are looked at."""
    target = bigquery.DatasetReference(settings.project, settings.dataset)
    staging = settings.staging_dataset
    return Datasets(
        target, bigquery.DatasetReference(settings.project, staging) if staging else target
    )


def open_datasets(client: bigquery.Client, calls: Calls, settings: Settings) -> Datasets:
    """Make sure that the datasets are there, and have jobs run where they are.

    Raises:
        TargetError: BigQuery can't be reached or refuses, or the datasets are in two locations.
    """
    named = datasets(settings)
    target = _opened(client, calls, settings, named.target, None)
    if target.location and target.location.lower() != calls.location.lower():
        logger.info("dataset %s is in %s", named.target.dataset_id, target.location)
        calls.location = target.location
    calls.patience = PATIENCE
    _warn_of_expiry(target)
    named = replace(
        named,
        any_case=bool(target.is_case_insensitive),
        collated=bool(target.to_api_repr().get("defaultCollation")),
    )
    if named.staging == named.target:
        return named
    staging = _opened(client, calls, settings, named.staging, STAGING_LIFETIME)
    if staging.location and staging.location.lower() != calls.location.lower():
        raise TargetError(
            f"setting 'staging_dataset': {named.staging.dataset_id} is in {staging.location} and "
            f"{named.target.dataset_id} in {calls.location}, and no job can use both: name another"
        )
    return replace(named, staging_expires=bool(staging.default_table_expiration_ms))


def _opened(
    client: bigquery.Client,
    calls: Calls,
    settings: Settings,
    reference: bigquery.DatasetReference,
    lifetime: timedelta | None,
) -> bigquery.Dataset:
    name = f"{reference.project}.{reference.dataset_id}"

    def get() -> bigquery.Dataset | None:
        try:
            # One that was never reached need not be waited for as long as one that is at work.
            seconds = min(CALL_TIMEOUT, calls.patience)
            return client.get_dataset(reference, timeout=seconds, retry=ONCE)
        except exceptions.NotFound:
            return None

    def make() -> bigquery.Dataset:
        made = bigquery.Dataset(reference)
        made.location = calls.location
        if lifetime:
            made.default_table_expiration_ms = lifetime // timedelta(milliseconds=1)
        if settings.kms_key_name:
            made.default_encryption_configuration = bigquery.EncryptionConfiguration(
                settings.kms_key_name
            )
        return client.create_dataset(made, timeout=CALL_TIMEOUT, retry=ONCE)

    def get_or_make() -> bigquery.Dataset:  # another run can make it at the same time
        found = get()
        if found is None:
            logger.info("making dataset %s in %s", name, calls.location)
            found = make()
        return found

    try:
        return calls.call("open or make it", get_or_make)
    except TargetError as error:
        raise TargetError(f"can't use dataset {name}: {error}") from error.__cause__


def _warn_of_expiry(dataset: bigquery.Dataset) -> None:
    name = f"{dataset.project}.{dataset.dataset_id}"
    if milliseconds := dataset.default_table_expiration_ms:
        lifetime = timedelta(milliseconds=milliseconds)
        logger.warning(
            "dataset %s has a default table expiration of %s: new tables disappear after it, with "
            "all rows; ALTER SCHEMA `%s` SET OPTIONS (default_table_expiration_days = NULL) ends "
            "that, and each table has its own%s",
            name,
            _days(lifetime),
            name,
            "; 60 days is what a project without billing gets, where MERGE and INSERT are refused"
            if lifetime == _WITHOUT_BILLING
            else "",
        )
    # https://github.com/googleapis/python-bigquery/blob/main/google/cloud/bigquery/dataset.py
    if milliseconds := dataset.default_partition_expiration_ms:
        logger.warning(
            "dataset %s has a default partition expiration of %s: rows of new partitioned tables "
            "disappear that long after the time of their partition; ALTER SCHEMA `%s` SET OPTIONS "
            "(default_partition_expiration_days = NULL) ends that",
            name,
            _days(timedelta(milliseconds=milliseconds)),
            name,
        )


def _days(time: timedelta) -> str:
    return f"{time / timedelta(days=1):g} days"
