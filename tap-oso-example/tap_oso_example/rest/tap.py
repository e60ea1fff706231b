"""The tap class: signals, messages and the last line of a failed run."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

from singer_sdk import Tap
from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.exceptions import ConfigValidationError, SingerSDKError
from singer_sdk.singerlib import Message, RecordMessage

from tap_oso_example.rest.logs import FirstOfItsKind

if TYPE_CHECKING:
    from types import FrameType


class _BufferedWriter(MsgSpecWriter):
    """Flushes for a state, not for each record: each flush lets all other threads go first."""

    def write_message(self, message: Message) -> None:
        line = bytes(self.format_message(message))
        written = 0
        while written < len(line):
            # A signal can cut a write short.
            written += sys.stdout.buffer.write(line[written:])
        if not isinstance(message, RecordMessage):
            sys.stdout.flush()


class ConcurrentTap(Tap):
    """A tap whose streams are `ConcurrentStream`s."""

    message_writer_class = _BufferedWriter

    def __init__(self, **kwargs: Any) -> None:
        self._signal: int | None = None
        logging.getLogger("singer_sdk").addFilter(FirstOfItsKind())
        super().__init__(**kwargs)

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        # Only a note: the main thread may be in the middle of a message. A second signal kills.
        self._signal = signum
        signal.signal(signum, signal.SIG_DFL)

    def raise_if_stopped(self) -> None:
        """End the sync if SIGTERM or Ctrl-C has come.

        Raises:
            SystemExit: With the code that shells use for a process ended by that signal.
        """
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            self.logger.warning("%s: stopping; the next run goes on from here", name)
            raise SystemExit(128 + self._signal)

    @classmethod
    def main(cls) -> None:
        """Run the command line. What fails is one line of log and exit code 1.

        The traceback is logged as well with `LOGLEVEL=DEBUG`.
        """
        try:
            cls.cli()
        except ConfigValidationError as error:
            for line in error.errors:
                cls.logger.error("%s", line)
            sys.exit(1)
        except SingerSDKError as error:
            cls.logger.error("%s", error, exc_info=cls.logger.isEnabledFor(logging.DEBUG))
            sys.exit(1)
