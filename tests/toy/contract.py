"""What do the toy's two topics hold? Makers as JSON, items as Avro; neither is keyed by a time, and rows of both can go."""

from lakehouse.contract import Contract, Field

MAKERS = Contract(
    topic="toy.makers.v1",
    entity=("maker_id",),
    key=("maker_id",),
    version="changed_ts",
    fields=(
        Field("maker_id", "long", required=True, about="the maker"),
        Field("maker_name", "string", about="as it is written on the goods"),
        Field("country", "string", about="where the maker sits"),
        Field("is_trusted", "boolean", about="whether the goods are let in unchecked"),
        Field("changed_ts", "timestamp", required=True, about="when the source changed the record; the greater wins"),
        Field("is_gone", "boolean", about="whether the maker has gone"),
    ),
    deleted="is_gone",
)

_ITEM = (
    Field("item_id", "string", required=True, about="the item"),
    Field("maker_id", "long", required=True, about="its maker, who may not be known yet"),
    Field("sold_ts", "timestamp_us", required=True, about="when it was sold, as far as is known; event time"),
    Field("price", "decimal(12, 2)", about="what was paid", unit="EUR", low=0, high=100_000),
    Field("is_new", "boolean", about="whether it had no owner before"),
    Field("made_on", "date", about="the day on its label"),
    Field("changed_ts", "timestamp", required=True, about="when the source changed the record; the greater wins"),
    Field("is_gone", "boolean", about="whether the record was withdrawn"),
)

ITEMS = Contract(
    topic="toy.items.v1",
    entity=("item_id",),
    key=("item_id",),
    version="changed_ts",
    fields=(*_ITEM, Field("remark", "string", about="anything else")),
    codec="avro",
    event_time="sold_ts",
    deleted="is_gone",
    wire_version=2,
    former=(_ITEM,),
)
