from __future__ import annotations

import math

import pytest
from torch import nn

from steepest.errors import SteepestError
from steepest.init import InitRow, InitTable, initialize


def test_it_prints_a_header_and_one_aligned_line_a_parameter_with_nothing_where_nothing_was_asked():
    table = InitTable(
        (
            InitRow("a.weight", "He fan_in=50, relu", 50, math.sqrt(2), 0.2, 0.19876543),
            InitRow("cls", "as Net made it", math.nan, math.nan, math.nan, 1.5),
            InitRow("a.bias", "constant 0", math.nan, math.nan, 0.0, 0.0),
        )
    )
    assert str(table).splitlines() == [
        "parameter  rule                fan   gain  std asked  std measured",
        "a.weight   He fan_in=50, relu   50  1.414        0.2        0.1988",
        "cls        as Net made it                                      1.5",
        "a.bias     constant 0                              0             0",
    ]


def test_it_prints_every_parameter_of_a_real_model():
    lines = str(initialize(nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10)), "he")).splitlines()
    assert [line.split()[0] for line in lines] == ["parameter", "0.weight", "0.bias", "2.weight", "2.bias"]
    assert "He fan_in=50, relu " in lines[1]


def test_rows_are_found_by_name_counted_and_iterated():
    rows = (
        InitRow("weight", "ones", math.nan, math.nan, 0.0, 0.0),
        InitRow("bias", "constant 0", math.nan, math.nan, 0.0, 0.0),
    )
    table = InitTable(rows)
    assert len(table) == 2
    assert tuple(table) == rows
    assert table["bias"] is rows[1]


def test_a_name_that_is_not_there_is_an_error_of_this_house_that_names_the_near_ones():
    table = InitTable((InitRow("0.weight", "ones", math.nan, math.nan, 0.0, 0.0),))
    with pytest.raises(SteepestError, match=r"got '0.weigth'.*0.weight"):
        table["0.weigth"]


def test_an_empty_table_prints_its_header():
    assert str(InitTable(())) == "parameter  rule  fan  gain  std asked  std measured"
