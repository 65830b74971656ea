"""Which rows are out of range or not finite, by the schema alone: the same bytes are judged the same way whenever they come."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from contracts.features import Column
from sync.ingest.intake import Batch

_FLOATS = ("f32", "f64")
_NUMBERS = (*_FLOATS, "i16", "i32", "i64", "utc_us")


def checked(batches: Iterable[Batch]) -> list[Batch]:
    """`batches` with bad_rows filled. Neighbours of one schema are judged together: an Arrow call costs more than a row."""
    result: list[Batch] = []
    for has_rows, group in groupby(batches, key=lambda batch: batch.schema if batch.rows is not None else None):
        members = list(group)
        result += _judged(members) if has_rows is not None else members
    return result


def _judged(batches: Sequence[Batch]) -> Iterator[Batch]:
    schema = batches[0].schema
    if schema is None:
        raise TypeError("rows without a schema")
    table = pa.Table.from_batches([batch.rows for batch in batches])
    bad = dict(bad_rows(schema.columns, table))
    start = 0
    for batch in batches:
        end = start + batch.header.rows
        yield replace(batch, bad_rows={index - start: detail for index, detail in bad.items() if start <= index < end}) if bad else batch
        start = end


def bad_rows(columns: Sequence[Column], table: pa.Table) -> Iterator[tuple[int, str]]:
    """(index, detail) of each bad row; a row that is bad twice comes twice. Nulls are good: nullability was checked before."""
    for column in columns:
        fault = _fault(column, table.column(column.name))
        if fault is None or not pc.any(fault).as_py():
            continue
        for index in pc.indices_nonzero(fault).to_pylist():
            yield index, f"{column.name} = {_number(column, table.column(column.name))[index].as_py()}"


def _fault(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """True where the value is bad; None when the column has nothing to check."""
    faults = []
    if column.type in _FLOATS:
        faults.append(pc.invert(pc.is_finite(values)))
    if column.type in _NUMBERS and column.min is not None:
        faults.append(pc.less(_number(column, values), column.min))
    if column.type in _NUMBERS and column.max is not None:
        faults.append(pc.greater(_number(column, values), column.max))
    return pc.fill_null(functools.reduce(pc.or_, faults), False) if faults else None


def _number(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """As doubles, in which the contract states ranges; an integer too large for one is rounded, not an error."""
    integers = values.cast(pa.int64()) if column.type == "utc_us" else values
    return integers.cast(pa.float64(), safe=False)
