"""When a request is worth another try, and how long to wait before it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import requests
from singer_sdk.exceptions import FatalAPIError, RetriableAPIError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    wait_exponential_jitter,
)

if TYPE_CHECKING:
    import logging
    import threading
    from collections.abc import Callable

    from tenacity import RetryCallState

MAX_TRIES = 7
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
# A server that says it is busy, but not until when.
UNKNOWN_LIMIT_WAIT = 10.0

RETRIABLE = (
    RetriableAPIError,
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


class NotFoundError(FatalAPIError):
    """The server answered 404."""


class RateLimitedError(RetriableAPIError):
    """The server asks every client of ours to pause for `wait` seconds."""

    def __init__(self, message: str, response: requests.Response, wait: float) -> None:
        super().__init__(message, response)
        self.wait = wait


class Gate:
    """Holds all threads back while the server asks for a pause."""

    def __init__(self) -> None:
        self._opens_at = 0.0

    def close_for(self, seconds: float) -> None:
        """Close for at least this long from now."""
        self._opens_at = max(self._opens_at, time.monotonic() + seconds)

    def pass_through(self, wait: Callable[[float], object]) -> None:
        """Return when the gate is open; `wait` takes seconds and may return early when all ends."""
        while (left := self._opens_at - time.monotonic()) > 0:
            if wait(left):
                return


def limit_wait(response: requests.Response) -> float | None:
    """Return how many seconds the server asks to pause, or `None` when it does not ask.

    Understands `Retry-After` in seconds and `x-ratelimit-reset` as seconds since 1970:
    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    headers = response.headers
    out_of_quota = headers.get("x-ratelimit-remaining") == "0"
    limited = response.status_code == requests.codes.too_many_requests or (
        response.status_code == requests.codes.forbidden
        and (out_of_quota or "retry-after" in headers)
    )
    if not limited:
        return None
    try:
        if "retry-after" in headers:
            return max(0.0, float(headers["retry-after"]))
        if out_of_quota:
            return max(0.0, float(headers["x-ratelimit-reset"]) - time.time())
    except (KeyError, ValueError):
        pass
    return UNKNOWN_LIMIT_WAIT


def check(response: requests.Response) -> None:
    """Raise unless the response is complete, decodable and a success.

    Raises:
        RateLimitedError: The server asks for a pause.
        RetriableAPIError: Another try may help: 5xx, or a body that is not JSON.
        NotFoundError: 404.
        FatalAPIError: Another try won't help: any other 4xx.
    """
    status = response.status_code
    # The path only: a query may hold a secret.
    what = f"{response.request.method} {_bare(response.url)}: HTTP {status} {response.reason}"
    if (wait := limit_wait(response)) is not None:
        raise RateLimitedError(what, response, wait)
    if status >= requests.codes.server_error:
        raise RetriableAPIError(what, response)
    if status == requests.codes.not_found:
        raise NotFoundError(what)
    if status >= requests.codes.bad_request:
        raise FatalAPIError(what)
    try:
        response.content.decode()
        msgspec.json.decode(response.content, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise RetriableAPIError(f"{what}, but the body is not JSON: {error}", response) from error


def retrying(gate: Gate, closed: threading.Event, logger: logging.Logger, url: str) -> Retrying:
    """Build the retry policy for one request.

    Every failed try is logged. When the tries are used up, or `closed` is set in between, the last
    error is raised as it is.

    Args:
        gate: Closed for all threads when one of them is told to pause.
        closed: Ends every wait as soon as it is set.
        logger: Where to say what is tried again.
        url: What to name in the log.
    """
    backoff = wait_exponential_jitter(multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT)

    def wait(state: RetryCallState) -> float:
        error = _error(state)
        if isinstance(error, RateLimitedError):
            gate.close_for(error.wait)
            return error.wait
        return backoff(state)

    def say(state: RetryCallState) -> None:
        logger.warning(
            "Try %d of %d failed, next in %.1f s: %s",
            state.attempt_number,
            MAX_TRIES,
            state.upcoming_sleep,
            describe(_error(state), url),
        )

    def give_up(state: RetryCallState) -> bool:
        return closed.is_set() or stop_after_attempt(MAX_TRIES)(state)

    return Retrying(
        retry=retry_if_exception_type(RETRIABLE),
        wait=wait,
        stop=give_up,
        sleep=sleep_using_event(closed),
        before_sleep=say,
        reraise=True,
    )


def describe(error: BaseException | None, url: str) -> str:
    """Say in one line what failed at which URL."""
    if isinstance(error, (FatalAPIError, RetriableAPIError)):
        return str(error)
    return f"GET {_bare(url)}: {_reason(error)}"


def _reason(error: BaseException | None) -> str:
    # requests wraps urllib3's errors, whose texts hold object addresses and the whole story again.
    match error:
        case requests.exceptions.Timeout():
            return "no answer in time"
        case requests.exceptions.ChunkedEncodingError():
            return "the body broke off"
        case requests.exceptions.ConnectionError():
            return "the connection failed or was cut"
    return f"{type(error).__name__}: {error}"


def _bare(url: str) -> str:
    return url.partition("?")[0]


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
