"""Which codec reads the messages of a contract, and what does Spark ask of one? Text of SQL alone: no Spark is needed to give it."""

from typing import Protocol

from lakehouse.codecs import avro_codec, json_codec
from lakehouse.contract import Contract, Field


class Form(Protocol):
    """How a codec carries one field; see `JsonForm` and `AvroForm`."""

    @property
    def column(self) -> str:
        """SQL of the column's value, `{}` where what was read stands."""

    @property
    def misfit(self) -> str:
        """SQL condition over what was read, not null: it is no value of the type. Empty where reading tells."""


class SqlCodec(Protocol):
    """What reading needs of a codec; each module of this folder is one."""

    def parsing(self, contract: Contract) -> str:
        """Return the SQL that reads a message: over the columns `value` and `wire_version`, a struct with each field."""

    def is_read(self, parsed: str) -> str:
        """Return the SQL condition, over the name of such a struct: the message could be read."""

    def form(self, f: Field) -> Form:
        """Return how a field is carried."""


def codec_of(contract: Contract) -> SqlCodec:
    """Return the codec of a contract."""
    return avro_codec if contract.codec == "avro" else json_codec


def over(sql: str, expression: str) -> str:
    """Put an expression into the SQL of a form."""
    return sql.replace("{}", expression)


def misfit(form: Form, expression: str) -> str:
    """Return the SQL condition, never null: an expression, of what was read, is no value of its type. Empty where it always is one."""
    return f"({expression} IS NOT NULL AND {over(form.misfit, expression)})" if form.misfit else ""
