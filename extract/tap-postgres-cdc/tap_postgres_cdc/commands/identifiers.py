"""Names and values as SQL writes them."""

from collections.abc import Iterable

from psycopg import sql


def identifier(*parts: str) -> str:
    """A name, such as `"public"."votes"`."""
    return sql.Identifier(*parts).as_string()


def identifiers(names: Iterable[tuple[str, ...] | str]) -> str:
    """Names, separated by commas."""
    return ", ".join(identifier(*([name] if isinstance(name, str) else name)) for name in names)


def literal(value: str) -> str:
    """A text in quotes."""
    return sql.Literal(value).as_string()
