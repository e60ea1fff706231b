"""A process that copies ranges for another one, to use a second core.

It is told what to do, and answers, in pickles over its standard streams; so a password is in no
argument, environment variable or file. It imports nothing heavy and ends with its parent.
"""

import fcntl
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, cast

import psycopg

from tap_postgres_cdc.copying import Batch, Copier, CopyJob
from tap_postgres_cdc.rows import Losses, ValueLossError
from tap_postgres_cdc.sessions import open_session


class WorkerError(Exception):
    """What went wrong in a worker: `cause` is the error there, or None if it just ended."""

    def __init__(self, message: str, cause: psycopg.Error | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class RemoteCopier:
    """Copies in a process of its own; made and used like `copying.Copier`."""

    def __init__(self, parameters: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Start the process.

        Args:
            parameters: Of libpq.
            descriptors: Open files that the parameters name.
        """
        self.losses = Losses()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tap_postgres_cdc.copy_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=1 << 20,
            pass_fds=descriptors,
            process_group=0,  # Ctrl-C is the parent's to handle
        )
        self._orders = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        # A thread that reads in small pieces would wait for Python's lock at each of them.
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, 1 << 20)
        self._send(parameters)

    def copy(self, job: CopyJob) -> Iterator[Batch]:
        """Copy a range, a batch of lines at a time.

        Raises:
            WorkerError: The process could not.
            ValueLossError: A value can't be written.
        """
        self._send(job)
        while isinstance(answer := self._receive(), Batch):
            yield answer
        if isinstance(answer, ValueLossError):
            raise answer
        if isinstance(answer, psycopg.Error):
            raise WorkerError(str(answer), answer)
        self.losses.update(answer)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._orders, self._answers):
            with suppress(BrokenPipeError):
                stream.close()

    def _send(self, message: object) -> None:
        try:
            pickle.dump(message, self._orders)
            self._orders.flush()
        except BrokenPipeError:
            raise WorkerError("a copying process ended unexpectedly") from None

    def _receive(self) -> Any:
        try:
            return pickle.load(self._answers)  # noqa: S301 - of our own process
        except (EOFError, pickle.UnpicklingError):
            raise WorkerError("a copying process ended unexpectedly") from None


def main() -> None:
    """Serve a `RemoteCopier` until it is gone."""
    orders, answers = sys.stdin.buffer, sys.stdout.buffer

    def answer(message: object) -> None:
        pickle.dump(message, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()

    def tell_idle() -> None:
        """Let the parent, which may be asked to stop, not wait for us."""
        # Another thread reads on while this one waits for the parent.
        if threading.current_thread() is threading.main_thread():
            answer(Batch(b"", 0))

    try:
        parameters: dict[str, Any] = pickle.load(orders)  # noqa: S301 - of our own process
        copier = Copier(lambda: open_session(parameters, while_waiting=tell_idle))
        while True:
            job: CopyJob = pickle.load(orders)  # noqa: S301
            try:
                for batch in copier.copy(job):
                    answer(batch)
                answer(copier.losses)
                copier.losses.clear()
            except (psycopg.Error, ValueLossError) as error:
                answer(type(error)(*error.args))
    except (EOFError, BrokenPipeError):
        # Without waiting for what the server may still be sending.
        os._exit(0)


if __name__ == "__main__":
    main()
