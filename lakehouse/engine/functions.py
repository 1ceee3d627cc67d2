"""Which SQL means the same to Spark and to DuckDB? Helpers for the texts of transforms, and what to avoid.

Write                                            | not, since the engines differ in silence
------------------------------------------------ | -----------------------------------------------------------------------
`double(12)`, or `12.0e0`                        | `12.0D` is no literal of DuckDB; `12.0` is a DECIMAL
`CAST(x AS DATE)`                                | `to_date(x)`
`date_key(x)`, `iso_text(x)`                     | `date_format(x, …)`
`CAST(hour(x) AS INT)`                           | `hour(x)` alone: DuckDB gives a BIGINT
`CAST(floor(x) AS INT)`                          | `CAST(x AS INT)` of a double: Spark cuts it, DuckDB rounds it
`CAST(floor(a / b) AS BIGINT)`                   | `a DIV b`
`unix_seconds(x)`, `unix_millis(x)`              | `unix_timestamp(x)`
`concat(a, b)` of texts that are not null          | one of which may be: DuckDB leaves it out, Spark gives null
`get(list, n)` with n from 0                     | `list[n]`: DuckDB counts from 1
`text(value)`                                    | a literal with `'` or a backslash: only Spark takes a backslash for an escape
backticks around a name that is a word of SQL    | double quotes: a text for Spark; the engine makes them of backticks for DuckDB
`mean(x)`, `mean_of_units(x, over)`              | `avg(x)` of doubles: the last bits depend on the order of the rows
`count(CASE WHEN c THEN 1 END)`                  | `count_if(c)`: DuckDB gives null where c is never known
`row_number() OVER (… DESC NULLS LAST)`          | `max(struct(…))`; and an ORDER BY that leaves open where nulls go
`CAST(sum(x) AS …)`                              | `sum(x)` alone: the engines give it different types
`lower_ascii(x)`                                 | `lower(x)`: the engines know other alphabets differently
`slug(x)`                                        | `regexp_replace(x, …)`: DuckDB replaces the first match only
`days_between(a, b)`                             | `datediff(b, a)`

A window function's argument of an ordered window stands for the rows up to the current one and its peers in both engines.

`unix_seconds`, `unix_millis`, `unix_date`, `timestamp_seconds`, `get`, `array_join`, `array_sort`, `collect_list` and `conv`
(of base 16 to 10) are functions of Spark; DuckDB gets them as macros (`on_duckdb.py`).
"""

from string import ascii_lowercase, ascii_uppercase

# Sums of whole numbers are exact, so they do not depend on the order of the rows. A value is taken to six digits after the point, more
# than any source reports; 2^53 of these units is some nine billion, so a sum of bounded values is exact as a double too.
UNITS = 1_000_000


def double(number: float) -> str:
    """Return a literal of type DOUBLE."""
    shown = repr(float(number))
    shown = shown if "e" in shown else f"{shown}e0"
    return f"({shown})" if shown.startswith("-") else shown


def text(value: str) -> str:
    """Return a literal of a text, whatever it holds."""
    parts: list[str] = []
    plain = ""
    for character in value:
        if character in "'\\`":
            parts += [f"'{plain}'", f"chr({ord(character)})"]
            plain = ""
        else:
            plain += character
    return f"concat({', '.join(parts)}, '{plain}')" if parts else f"'{plain}'"


def date_key(instant: str) -> str:
    """Return the SQL of an instant's UTC day as an integer YYYYMMDD."""
    return f"CAST(year({instant}) * 10000 + month({instant}) * 100 + day({instant}) AS INT)"


def iso_text(instant: str) -> str:
    """Return the SQL of an instant as text in UTC, such as 2024-03-01T05:00:00Z; parts of a second are cut."""
    clock = ", ':', ".join(f"lpad(CAST({part}({instant}) AS STRING), 2, '0')" for part in ("hour", "minute", "second"))
    return f"concat(CAST(CAST({instant} AS DATE) AS STRING), 'T', {clock}, 'Z')"


def in_units(column: str) -> str:
    """Return the SQL of a DOUBLE column in whole units, see UNITS; its values are finite and below 2^53 units in size."""
    return f"CAST(floor({column} * {double(UNITS)} + 0.5e0) AS BIGINT)"


def mean(column: str) -> str:
    """Return the SQL of the mean of a DOUBLE column over a group; null where all values are null."""
    return mean_of_units(in_units(column))


def mean_of_units(units: str, over: str = "") -> str:
    """Return the SQL of a mean, of what `in_units` gave.

    Args:
        units: a column, where there is a window: Spark computes an expression once for each row of each row's window.
        over: SQL of the window, such as `OVER (PARTITION BY …)`; an aggregate of a group without one.
    """
    window = f" {over}" if over else ""
    return f"CAST(sum({units}){window} AS DOUBLE) / (count({units}){window} * {double(UNITS)})"


def lower_ascii(column: str) -> str:
    """Return the SQL of a text whose letters A to Z are small; all others stay as they are."""
    return f"translate({column}, '{ascii_uppercase}', '{ascii_lowercase}')"


def slug(column: str) -> str:
    """Return the SQL of a text as a slug: its letters a to z and digits, whatever lies between two of them as one hyphen; '' for none."""
    return f"array_join(regexp_extract_all({lower_ascii(column)}, '[a-z0-9]+', 0), '-')"


def days_between(first: str, last: str) -> str:
    """Return the SQL of the days from one DATE to another, as an INT."""
    return f"CAST(unix_date({last}) - unix_date({first}) AS INT)"


def hash_63(*texts: str) -> str:
    """Return the SQL of a BIGINT from 0 to 2^63 - 1 that depends on texts alone: the last 63 of the first 64 bits of their MD5.

    Args:
        texts: SQL of texts that are not null, and do not hold `|`, which stands between them.
    """
    digest = f"md5(concat_ws('|', {', '.join(texts)}))"
    high, low = (f"CAST(conv(substr({digest}, {first}, 8), 16, 10) AS BIGINT)" for first in (1, 9))
    return f"({high} % {1 << 31}) * {1 << 32} + {low}"
