"""The tap: what the Singer SDK gives to the command line, around a run of `capture`."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from io import TextIOWrapper
from types import FrameType
from typing import Any

import click
import msgspec
import psycopg
from singer_sdk import Stream, Tap
from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from singer_sdk.plugin_base import JSONSchemaValidator, SingerCommand
from singer_sdk.singerlib import Catalog

from tap_postgres_cdc.capture import Capture
from tap_postgres_cdc.commands.cli import COMMANDS
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.discovery import discover
from tap_postgres_cdc.errors import CaptureError, Interrupted
from tap_postgres_cdc.output import DirectOutput, Output, SdkOutput, WholeWriter
from tap_postgres_cdc.prerequisites import open_env_file
from tap_postgres_cdc.records import SEQUENCE
from tap_postgres_cdc.selection import CatalogSelection
from tap_postgres_cdc.settings import CONFIG_SCHEMA, Settings, read_settings
from tap_postgres_cdc.state import DAMAGED, State
from tap_postgres_cdc.streams import PostgresStream
from tap_postgres_cdc.typecatalog import TypeCatalog
from tap_postgres_cdc.visibility import Patience

ONE_WISH = 2.0  # seconds in which signals to stop count as one


class _TapCommand(SingerCommand, click.Group):
    """The SDK's command, with subcommands."""


class TapPostgresCDC(Tap):
    """Copies the tables of a publication, then streams their changes from a pgoutput slot."""

    name = "tap-postgres-cdc"
    config_jsonschema = CONFIG_SCHEMA
    dynamic_catalog = True
    message_writer_class = WholeWriter
    capabilities = [  # noqa: RUF012 - the SDK's own form
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        TapCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, *, catalog: Any = None, state: Any = None, **options: Any) -> None:
        """Take what the SDK takes; a catalog may also be the bytes of its file."""
        self.selection = CatalogSelection(catalog)
        self._given_catalog = catalog
        self._stop = threading.Event()
        self._signal = 0
        self._stopped_at = 0.0
        self._is_told = False
        self._given_state: dict[str, Any] = {}
        super().__init__(state=state, **options)
        if isinstance(catalog, bytes) and not self._is_mapped:
            self._given_catalog = None  # it is as large as all the rest

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """The command line: the SDK's options, and subcommands for the database."""
        command = super().get_singer_command()
        return _TapCommand(
            name=command.name,
            callback=command.callback,
            context_settings=command.context_settings,
            params=command.params,
            help="Copy a PostgreSQL database's tables and stream their changes; or look at the "
            "database with one of the commands.",
            commands={one.name: one for one in COMMANDS if one.name},
            invoke_without_command=True,
            logger=cls.logger,
        )

    @classmethod
    def invoke(cls, **options: Any) -> None:
        """Run the tap, or let a subcommand read the settings when it needs them.

        Raises:
            CaptureError: Something is wrong.
        """
        context = click.get_current_context()
        if context.invoked_subcommand is None:
            cls._run(**options)
        else:
            context.obj = partial(cls._read_settings, options["config"])

    @classmethod
    def _run(
        cls,
        *,
        config: Any,
        state: TextIOWrapper | None,
        catalog: TextIOWrapper | None,
        **options: Any,
    ) -> None:
        """What `Tap.invoke` does, without making objects of all that a catalog has."""
        super(Tap, cls).invoke(**options)
        cls.print_version(print_fn=cls.logger.info)
        tap = cls(
            config=config.config,
            parse_env_config=config.parse_env,
            catalog=_read(catalog, "catalog"),
            state=read_state(state),
            setup_mapper=False,
        )
        tap.sync_all()

    @classmethod
    def _read_settings(cls, given: Any) -> Settings:
        config = {**given.config, **(cls._env_var_config if given.parse_env else {})}
        if errors := cls._config_errors(config):
            raise CaptureError("; ".join(errors))
        settings = read_settings(config)
        for warning in settings.warnings:
            cls.logger.warning("%s", warning)
        return settings

    @property
    def settings(self) -> Settings:
        """The checked settings.

        Raises:
            CaptureError: One of them is missing or not supported.
        """
        return read_settings(self.config)

    @property
    def _is_mapped(self) -> bool:
        """Whether records go through the SDK."""
        return bool(self.config.get("stream_maps") or self.config.get("flattening_enabled"))

    def connection(self) -> AbstractContextManager[psycopg.Connection]:
        """A connection for queries, see `Connector.session`."""
        return Connector(self.settings, self._stop).session()

    def _tell_settings(self) -> None:
        """Say once how settings are taken, and what of them is not as it should be."""
        if self._is_told:
            return
        self._is_told = True
        settings = self.settings
        for notice in settings.notices:
            self.logger.info("%s", notice)
        for warning in settings.warnings:
            self.logger.warning("%s", warning)
        if file := open_env_file():
            self.logger.warning("Other users of this machine may read %s: chmod 600 %s", file, file)

    def discover_streams(self) -> list[Stream]:
        """Streams of the publication's tables.

        Raises:
            CaptureError: It has none, or the server can't be asked.
        """
        self._tell_settings()
        settings = self.settings
        with self._stopping(), self.connection() as connection:
            publication = Patience(self._stop, settings.wait_minutes).unlocked(
                connection,
                lambda: discover(
                    connection,
                    TypeCatalog(connection),
                    settings.publication,
                    settings.schemas,
                    settings.stream_name,
                ),
                "a table of the publication",
            )
        return [PostgresStream(self, table) for table in publication.tables]

    @property
    def input_catalog(self) -> Catalog | None:
        """What the catalog is for the SDK."""
        if self._input_catalog is None and self._given_catalog is not None:
            given = self._given_catalog
            found = msgspec.json.decode(given) if isinstance(given, bytes) else given
            self._input_catalog = Catalog.from_dict(found)
        return self._input_catalog

    @property
    def catalog_dict(self) -> dict[str, Any]:
        """The catalog, with the annotations of schemas that the SDK's own form leaves out."""
        streams = self.streams.values()
        return {"streams": [s.catalog_entry for s in streams if isinstance(s, PostgresStream)]}

    @property
    def catalog_json_text(self) -> str:
        """The same as text, without the white space that is most of it."""
        return msgspec.json.encode(self.catalog_dict).decode()

    def load_state(self, state: dict[str, Any]) -> None:
        """Keep the state for the run; it is not of the form that the SDK makes."""
        self._given_state = state

    def sync_all(self) -> None:  # type: ignore[misc] # the SDK syncs one stream after another
        """Write everything that is new: the log holds the changes of all streams in one order.

        Raises:
            CaptureError: Something is wrong.
        """
        try:
            with self._stopping():
                self._tell_settings()
                self._capture().run()
        except BrokenPipeError:
            # Python would complain once more when it closes standard output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CaptureError("the loader has gone: look at its last lines") from None

    def run_sync_dry_run(  # type: ignore[misc] # a slot that can't be read has to fail the test
        self,
        dry_run_record_limit: int | None = 1,
        streams: Iterable[Stream] | None = None,
    ) -> bool:
        """Check everything a run needs, then read a row of each table.

        Raises:
            CaptureError: Something is wrong.
        """
        with self._stopping():
            self._capture().check()
            return super().run_sync_dry_run(dry_run_record_limit, streams)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """End the command when the run was asked to stop."""
        try:
            yield
        except Interrupted:
            self.logger.info("Stopped as asked; the next run goes on from here")
            sys.stdout.flush()
            sys.exit(128 + self._signal)

    def _capture(self) -> Capture:
        output: Output = DirectOutput(SEQUENCE)
        if self._is_mapped:
            self.setup_mapper()
            streams = self.streams.values()
            output = SdkOutput({s.name: s for s in streams if isinstance(s, PostgresStream)})
        state = _state(self._given_state)
        return Capture(self.settings, self.selection, state, output, self._stop)

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        errors = self._config_errors(self._config)
        if errors and raise_errors:
            raise CaptureError("; ".join(errors))
        return errors

    @classmethod
    def _config_errors(cls, config: Mapping[str, Any]) -> list[str]:
        """Check the form of the settings; values are not shown, as they may be secret."""
        cls.append_builtin_config(cls.config_jsonschema)
        return [
            f"setting {'.'.join(map(str, error.path)) or 'file'}: "
            + (error.message if error.validator == "required" else _expected(error))
            for error in JSONSchemaValidator(cls.config_jsonschema).iter_errors(config)
        ]

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """Ask the run to end where it is; a signal that comes later ends it at once.

        Ctrl-C reaches all processes of a terminal, and then Meltano sends each of its own a
        SIGTERM: what comes within two seconds is the same wish.
        """
        now = time.monotonic()
        if not self._signal:
            self.logger.info("Stopping; once more ends at once")
            self._signal, self._stopped_at = signum, now
            self._stop.set()
        elif now - self._stopped_at >= ONE_WISH:
            os._exit(128 + signum)
        del frame


def _state(given: Any) -> State:
    try:
        return State.parse(given)
    except DAMAGED:
        raise CaptureError(
            "the state is not of this tap: it is damaged, another tap's, or an earlier version's, "
            "which kept too little; restore it with meltano state set, or run with --full-refresh, "
            "which copies everything anew"
        ) from None


def _read(file: TextIOWrapper | None, what: str) -> bytes | None:
    try:
        return None if file is None else bytes(file.buffer.read())
    except (OSError, ValueError) as error:
        raise CaptureError(f"the {what} can't be read: {error}") from None


def read_state(file: TextIOWrapper | None) -> dict[str, Any]:
    """Read a state as it is given to the command, an empty one if none is.

    Raises:
        CaptureError: The file is damaged.
    """
    data = _read(file, "state")
    try:
        state = {} if data is None else msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise CaptureError(f"the state is damaged: {error}") from None
    if not isinstance(state, dict):
        raise CaptureError("the state is damaged: it is no object")
    return state


def _expected(error: Any) -> str:
    expected = error.validator_value
    options = " or ".join(map(str, expected)) if isinstance(expected, list) else expected
    bound = {"minimum": "at least ", "exclusiveMinimum": "more than "}.get(error.validator, "")
    return f"must be {bound}{options}"
