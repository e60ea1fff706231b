"""The target as the Singer SDK sees it: command line, settings, signals and exit codes."""

import logging
import os
import signal
import sys
import time
from collections import Counter
from types import FrameType
from typing import IO, Any, ClassVar

from singer_sdk import Target
from singer_sdk.exceptions import (
    ConfigValidationError,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities
from singer_sdk.io_base import SingerReader

from target_bigquery.errors import TargetError
from target_bigquery.loader import Loader
from target_bigquery.reader import Waker, blocks
from target_bigquery.settings import SCHEMA, environment_settings, settings

# Ctrl-C reaches all processes of a terminal, and then Meltano sends each of its own a SIGTERM: that
# is no second wish of the user. It comes within milliseconds, on a busy machine within a second.
ONE_WISH = 2.0

logger = logging.getLogger(__name__)


class TargetBigQuery(Target):
    """Loads Singer streams into BigQuery."""

    name = "target-bigquery"
    config_jsonschema = SCHEMA
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, **options: Any) -> None:
        self._stopped_by: int | None = None
        self._stopped_at = 0.0
        self._waker: Waker | None = None
        self._loader: Loader | None = None
        super().__init__(**options, message_reader=_Lines(self))

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805
        """Read the environment: the SDK takes text that may be several types for one of them."""
        return environment_settings(os.environ)

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Leave out the SDK's settings for batches, mapping and validation."""

    @classmethod
    def invoke(cls, **options: Any) -> None:
        """Run; whatever goes wrong is one line in the log and exit code 1."""
        try:
            super().invoke(**options)
        except ConfigValidationError as error:
            cls.logger.error("settings: %s", "; ".join(error.errors))  # one line
            sys.exit(1)
        except (
            TargetError,
            MissingKeyPropertiesError,
            RecordsWithoutSchemaException,
            OSError,  # standard output is closed, no space for temporary files
        ) as error:
            cls.logger.error("%s", error)  # one line
            cls.logger.debug("the error's origin", exc_info=True)
            sys.exit(1)

    def take(self, source: IO[Any]) -> Counter[str]:
        """Read messages to the end, or to a signal."""
        waker = self._waker = self._waker or Waker()
        loader = self._loader = self._loader or Loader(settings(self.config), _emit, waker.wake)
        try:
            loader.read(
                blocks(source, waker, loader.patience, lambda: self._stopped_by is not None)
            )
        except BaseException:
            self._end(complete=False)
            raise
        counts = loader.counts
        return Counter(
            SCHEMA=counts.schemas,
            RECORD=counts.records,
            STATE=counts.states,
            ACTIVATE_VERSION=counts.versions,
        )

    def process_endofpipe(self) -> None:
        """Commit what is left; after a signal, exit the way the signal's default would."""
        self._end(complete=True)
        if self._stopped_by is not None:
            sys.exit(128 + self._stopped_by)

    def _end(self, *, complete: bool) -> None:
        loader, waker = self._loader, self._waker
        self._loader = None
        try:
            if loader is not None:
                loader.close(complete=complete)
        finally:
            self._waker = None
            if waker is not None:
                waker.close()

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop with the tap's last line at the first signal, at once at one that comes later."""
        now = time.monotonic()
        if self._stopped_by is not None:
            if now - self._stopped_at >= ONE_WISH:
                os._exit(128 + signum)
            return
        self._stopped_by, self._stopped_at = signum, now
        if self._waker is not None:
            self._waker.wake()
        name = signal.Signals(signum).name
        self.logger.warning(
            "%s: loading what was read, then stopping; once more stops at once", name
        )


class _Lines(SingerReader):
    """Hands the input to the target's own loop instead of decoding each line into a dict."""

    def __init__(self, target: TargetBigQuery) -> None:
        super().__init__()
        self._target = target

    def process_lines(self, file_input: IO[str] | None, callbacks: Any) -> Counter[str]:  # noqa: ARG002
        return self._target.take(file_input or sys.stdin)


def _emit(state: bytes) -> None:
    sys.stdout.write(state.decode() + "\n")
    sys.stdout.flush()
