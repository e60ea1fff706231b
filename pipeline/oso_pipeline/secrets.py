"""Settings of one source, handed over as the text of a `.env` file."""

import io
from collections.abc import Iterable, Mapping

from dotenv import dotenv_values

VARIABLE = "SOURCE_ENV"
# Shorter values, such as a port or true, would blacken half of the log.
SHORTEST_SECRET = 5


def settings_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that `SOURCE_ENV` holds; none if it is not set."""
    text = io.StringIO(environ.get(VARIABLE, ""))
    return {
        name: value or "" for name, value in dotenv_values(stream=text, interpolate=False).items()
    }


def secrets_in(settings: Mapping[str, str]) -> list[str]:
    """Return what must not be shown, line by line, the longest first."""
    lines = {line.strip() for value in settings.values() for line in value.splitlines()}
    found = (line for line in lines if len(line) >= SHORTEST_SECRET)
    return sorted(found, key=lambda line: (-len(line), line))


def mask_commands(secrets: Iterable[str]) -> Iterable[str]:
    """Return what makes GitHub hide the values in the rest of the job's log.

    GitHub hides the secret as a whole and its lines, which are `NAME=value` here.
    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#masking-a-value-in-a-log
    """
    for secret in secrets:
        escaped = secret.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        yield f"::add-mask::{escaped}"


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return the text without the values."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
