"""Values as literals of GoogleSQL.

https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#literals
"""

from decimal import Decimal
from typing import Any

TYPED = {"BIGNUMERIC", "DATE", "DATETIME", "NUMERIC", "TIMESTAMP"}  # written as TYPE 'value'


def literal(kind: str, value: Any) -> str:
    """Return a value, as Python holds it, as a literal of a type.

    Args:
        kind: one of `TYPED`, or BOOL, INT64 or STRING.
        value: not None; if it is text, all of it printable.
    """
    if kind in TYPED:
        written = f"{value:f}" if isinstance(value, Decimal) else str(value)  # no exponent
        return f"{kind} '{written}'"
    if kind == "STRING":
        escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return str(value).upper()
