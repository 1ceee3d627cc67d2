"""Which of some rows in memory belong to a part of a table, and which of them differ from the rows that are wanted? With Arrow alone."""

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.engine.engine import DoesNotFit
from lakehouse.parts import Keys, Part
from lakehouse.spans import Spans, Times
from lakehouse.tables.schema import Table
from lakehouse.write.merge import INSTANT
from lakehouse.write.small_batches.local_rows import Selection, numbers

MOST_INT = (1 << 63) - 1
MICROS_PER_DAY = 86_400_000_000


def selection_of(part: Part, times: Times | None) -> Selection | None:
    """Return the selection of a part's rows; None for the whole table.

    Args:
        part: by columns of a table.
        times: the columns by which spans select rows.

    Raises:
        ValueError: spans were given for a table that is kept by key.
    """
    if isinstance(part, Keys):
        columns = list(dict.fromkeys(name for names in part.tuples for name in names))
        return None if part.is_whole else Selection(columns, lambda rows: _with_keys(rows, part))
    if times is None:
        raise ValueError("rows that are kept by key were asked for in spans of time")
    return Selection([times.entity, times.starts, times.last], lambda rows: _overlapping(rows, part, times))


def rows_of(rows: pa.Table, part: Part, times: Times | None = None) -> pa.Table:
    """Keep the rows of a part, as `only_in` does for a DataFrame: those that overlap a span of their entity, both ends included, or that
    have one of the values; null equals null.

    Raises:
        DoesNotFit: entities and time span, or the values of several columns, are too many to be encoded in one number.
        ValueError: as for `selection_of`.
    """
    selection = selection_of(part, times)
    return rows if selection is None else rows.filter(selection.mask(rows))


def _overlapping(rows: pa.Table, span: Spans, times: Times) -> pa.ChunkedArray | pa.Array:
    if not rows.num_rows or not span:
        return pa.repeat(pa.scalar(False), rows.num_rows)
    since, until = (pa.array([row[n] for row in span.rows], INSTANT).cast(pa.int64()) for n in (1, 2))
    least, most = pc.min(since).as_py(), pc.max(until).as_py()
    if len(span.entities) * (most - least + 3) > MOST_INT:
        raise DoesNotFit(f"{len(span.entities)} entities over {(most - least) // MICROS_PER_DAY} days")
    kind = rows.schema.field(times.entity).type
    entities = pa.array(span.entities, kind)

    # Entity and time are encoded in one number, by which the spans are sorted. Only the first span that ends at or after a row's start
    # can overlap the row.
    def key(found: pa.Array | pa.ChunkedArray, instants: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        within = pc.subtract(pc.min_element_wise(pc.max_element_wise(instants, least - 1), most + 1), least - 1)
        return pc.add(pc.multiply(pc.index_in(found, entities), most - least + 3), within)

    owners = pa.array([row[0] for row in span.rows], kind)
    first = pc.search_sorted(key(owners, until), key(rows[times.entity], _micros(rows[times.starts])).combine_chunks(), side="left")
    begins = pa.concat_arrays([key(owners, since), pa.array([MOST_INT], pa.int64())]).take(first)  # no span lies behind the last one
    overlaps = pc.less_equal(begins, key(rows[times.entity], _micros(rows[times.last])).combine_chunks())
    return pc.and_(pc.fill_null(overlaps, False), pc.is_valid(rows[times.starts]))  # a row of another entity has no key


def _with_keys(rows: pa.Table, part: Keys) -> pa.ChunkedArray | pa.Array:
    kept = pa.chunked_array([pa.repeat(pa.scalar(False), rows.num_rows)])
    for columns, tuples in part.tuples.items():
        code, wanted, size = pa.scalar(0, pa.int64()), pa.scalar(0, pa.int64()), 1
        for name, values in zip(columns, zip(*tuples, strict=True), strict=True):
            listed = pa.array(values, rows.schema.field(name).type)
            known = pc.unique(listed)
            size *= len(known) + 1
            if size > MOST_INT:
                raise DoesNotFit(f"{len(tuples)} tuples of {', '.join(columns)}")
            # A value that no tuple has is numbered behind those that one has.
            code = pc.add(pc.multiply(code, len(known) + 1), pc.fill_null(pc.index_in(rows[name], known), len(known)).cast(pa.int64()))
            wanted = pc.add(pc.multiply(wanted, len(known) + 1), pc.index_in(listed, known).cast(pa.int64()))
        kept = pc.or_(kept, pc.is_in(code, wanted))
    return kept


def differing(wanted: pa.Table, present: pa.Table, table: Table, vanishing: bool) -> tuple[pa.Table, pa.Table]:
    """Compare wanted rows with present rows by key; null equals null.

    Args:
        wanted: rows of the table's columns, one per key.
        present: the same with `_file` and `_pos`.
        table: whose rows.
        vanishing: whether a row that is not wanted is deleted.

    Returns:
        The wanted rows that are new or different, and the present rows that are replaced or deleted.
    """
    keys = list(table.key)
    numbered = wanted.select(keys).append_column("_wanted", numbers(wanted))
    both = numbered.join(present.select(keys).append_column("_present", numbers(present)), keys, join_type="full outer", use_threads=False)
    new = both.filter(pc.is_null(both["_present"]))["_wanted"]
    gone = both.filter(pc.is_null(both["_wanted"]))["_present"]
    pairs = both.filter(pc.and_(pc.is_valid(both["_wanted"]), pc.is_valid(both["_present"])))
    old, fresh = present.take(pairs["_present"]), wanted.take(pairs["_wanted"])
    same = pa.chunked_array([pa.repeat(pa.scalar(True), pairs.num_rows)])
    for name in table.computed.names:
        left, right = old[name], fresh[name]
        alike = pc.or_(pc.fill_null(pc.equal(left, right), False), pc.and_(pc.is_null(left), pc.is_null(right)))
        same = pc.and_(same, alike)
    changed = pairs.filter(pc.invert(same))
    come = pa.concat_tables([wanted.take(new), wanted.take(changed["_wanted"])])
    return come, pa.concat_tables([present.take(changed["_present"]), *([present.take(gone)] if vanishing else [])])


def _micros(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(INSTANT if pa.types.is_timestamp(column.type) else pa.timestamp("us")).cast(pa.int64())
