"""Arrays are written in pieces exactly as orjson writes them at once."""

import numpy as np
import orjson
import pytest

from extproc.convert.elements import CHUNK
from extproc.convert.json_array import json_array, json_object, json_rows
from sluice.tensors.elements import Array

LONG = 3 * CHUNK
SHAPES = [
    (0,), (1,), (CHUNK,), (CHUNK + 1,), (LONG,), (LONG, 1), (1, LONG), (2, LONG), (LONG, 0),
    (0, LONG), (7, 5, 1000), (3, 1, 2, 1), (LONG // 8, 2, 2, 2), (2, 0, 3), (1, 1, LONG),
]  # fmt: skip


def numbers(shape: tuple[int, ...], dtype: str = "<f4") -> Array:
    values = np.random.default_rng(7).normal(scale=50, size=shape).astype(dtype)
    if dtype == "<f4" and values.size:
        values.flat[0] = np.nan
    return values


def at_once(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", "i1", "?"])
def test_an_array_of_numbers(shape: tuple[int, ...], dtype: str) -> None:
    values = numbers(shape, dtype)
    assert json_array(values) == at_once(values)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_array_of_texts(shape: tuple[int, ...]) -> None:
    values = np.array([f'a,"]{i}' for i in range(int(np.prod(shape)))], dtype=object)
    values = values.reshape(shape)
    assert json_array(values) == orjson.dumps(values.tolist())


def test_a_single_value() -> None:
    assert json_array(np.array(1.5, np.float32)) == b"1.5"
    assert json_array(np.array("a", object)) == b'"a"'


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_several_columns(shape: tuple[int, ...]) -> None:
    count = shape[0]
    texts = np.array([f"],[{i}" for i in range(count)], dtype=object)
    columns = {'50%s"': numbers(shape), "y": numbers((count,), "i1"), "t": texts}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert json_rows(columns) == at_once(rows)


def test_an_object_of_columns() -> None:
    columns = {'a"': numbers((3,)), "b": numbers((2, 2), "i1")}
    assert json_object(columns) == at_once(columns)
