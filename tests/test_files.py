"""Files that appear in one step: JSON that is sorted, rounded and finite, tables, texts, and kills between."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch

from glscl import files
from glscl.files import write_json, write_table, write_text

TABLE = pd.DataFrame({"video": ["a", "b"], "score": [0.25, 1e-9]}, index=[7, 3])


def test_json_is_sorted_rounded_and_plain(tmp_path):
    path = tmp_path / "new" / "a.json"
    results = {"b": np.float32(1 / 3), "a": [np.int64(2), (1e-7 / 3, True, None)], "c": np.eye(1)}
    write_json(path, results, digits=3)
    assert json.loads(path.read_text()) == {"a": [2, [3.33e-8, True, None]], "b": 0.333, "c": [[1.0]]}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')


def test_json_takes_tensors_and_numbers_as_keys_and_keeps_letters(tmp_path):
    write_json(tmp_path / "a.json", {"é": torch.tensor([1.5, 2.0]), "of": {3: torch.tensor(2)}})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"é": [1.5, 2.0], "of": {"3": 2}}
    assert "é" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("number", "written"), [(1234567.8, 1234570.0), (0.12345678, 0.123457), (1.0, 1.0), (-2e-20, -2e-20)]
)
def test_six_digits_are_kept(tmp_path, number, written):
    write_json(tmp_path / "a.json", {"x": number})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": written}


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), np.array([0.0, np.nan])])
def test_json_refuses_what_is_not_finite(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"a\.json\.recall\.r1.*finite"):
        write_json(path, {"recall": {"r1": value}})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(("name", "read"), [("a.csv", pd.read_csv), ("a.parquet", pd.read_parquet)])
def test_a_table_is_written_without_its_index(tmp_path, name, read):
    path = tmp_path / "new" / name
    write_table(str(path), TABLE)
    pd.testing.assert_frame_equal(read(path), TABLE.reset_index(drop=True))
    assert os.listdir(path.parent) == [name]


def test_a_table_of_another_kind_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(KeyError, match=r"\.xlsx"):
        write_table(tmp_path / "a.xlsx", TABLE)
    assert not list(tmp_path.iterdir())


WRITERS = {
    "a.txt": lambda path: write_text(path, "new"),
    "a.json": lambda path: write_json(path, {"new": 1}),
    "a.csv": lambda path: write_table(path, TABLE),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_leaves_the_old_file_and_the_next_write_the_new_one(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_text("old")
    replace = os.replace
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        WRITERS[name](path)
    assert path.read_text() == "old"
    monkeypatch.setattr(files.os, "replace", replace)
    WRITERS[name](path)
    assert path.read_text() != "old"
    assert os.listdir(tmp_path) == [name]
