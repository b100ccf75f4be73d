"""Files that appear in one step: JSON that is sorted, rounded and finite, tables, texts, and kills between."""

import errno
import json
import os
import sqlite3
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from glscl import files
from glscl.files import (
    FullDiskError,
    damage,
    full_disk,
    replacing,
    write_checksums,
    write_json,
    write_table,
    write_text,
)

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


def test_what_replaces_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    flush, replace = files.to_disk, os.replace
    monkeypatch.setattr(files, "to_disk", lambda path: (done.append(path.name), flush(path)))
    monkeypatch.setattr(files.os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    with replacing(tmp_path / "folder") as partial:
        (partial / "inner").mkdir(parents=True)
        (partial / "inner/file").write_text("content")
    assert done[:-2] == [".folder.partial", "inner", "file"]
    assert done[-2:] == ["replace", tmp_path.name]


def test_a_folder_is_replaced_as_a_whole_or_stays(tmp_path):
    def write(name):
        with replacing(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / name).touch()
            if name == "broken":
                raise KeyError(name)

    for name, left in (("old", "old"), ("broken", "old"), ("new", "new")):
        try:
            write(name)
        except KeyError:
            assert name == "broken"
        assert [path.name for path in (tmp_path / "folder").iterdir()] == [left]
        assert os.listdir(tmp_path) == ["folder"]


def test_checksums_are_those_of_sha256sum_and_find_what_is_changed(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".hidden").touch()
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart/c.txt").write_text("c")
    write_checksums(tmp_path / "apart", {"../a.txt": files.checksum(tmp_path / "a.txt")})
    write_checksums(tmp_path)
    for folder in (tmp_path, tmp_path / "apart"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
        assert damage(folder) == ""
    (tmp_path / "c.txt").touch()
    assert "should name each file there, 'c.txt' is on one side alone" in damage(tmp_path)
    (tmp_path / "c.txt").unlink()
    (tmp_path / "a.txt").write_text("another")
    assert damage(tmp_path) == f"{tmp_path / 'a.txt'} is not what its checksum says"
    assert damage(tmp_path / "apart") == f"{tmp_path / 'apart/../a.txt'} is not what its checksum says"
    (tmp_path / "b.txt").unlink()
    assert "'b.txt' is on one side alone" in damage(tmp_path)
    (tmp_path / "SHA256SUMS").unlink()
    assert f"{tmp_path} cannot be checked" in damage(tmp_path)


FULL = {
    "with the file": lambda folder: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "new/file")),
    "of a copy": lambda folder: OSError(errno.ENOSPC, "No space left on device", "/a", None, str(folder / "b")),
    "of safetensors": lambda _: SafetensorError("I/O error: No space left on device (os error 28)"),
    "of sqlite": lambda _: sqlite3.OperationalError("database or disk is full"),
    "of a quota": lambda _: OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "of another process": lambda folder: f"ERROR: x\nOSError: [Errno 28] No space left on device: '{folder}/f'\nmore",
}


def test_what_a_copy_needs_is_the_size_of_its_source(tmp_path):
    (tmp_path / "source").write_bytes(bytes(1_500_000))
    error = OSError(
        errno.ENOSPC, "No space left on device", str(tmp_path / "source"), None, str(tmp_path / "cache/copy")
    )
    assert "MB are free and 1.5 MB are needed for source;" in full_disk(error, "/")


@pytest.mark.parametrize("kind", FULL)
def test_an_error_of_a_full_disk_is_one_sentence_with_the_folder(tmp_path, kind):
    told = full_disk(FULL[kind](tmp_path), tmp_path / "not/yet")
    assert told.startswith(f"the disk of {tmp_path} is full: ")
    assert told.endswith(" MB are free; free some space, and the same command goes on from there")
    error = RuntimeError("it failed")
    error.__cause__ = OSError(f"first; {told}")
    assert full_disk(error, "/elsewhere") == told


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied", "/a"), ValueError("a batch is full")])
def test_other_errors_tell_nothing_of_a_disk(error):
    assert full_disk(error, "/") == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the /dev/full of Linux")
def test_a_full_disk_leaves_the_old_file_and_says_what_is_missing(tmp_path):
    (tmp_path / "a.bin").write_text("old")
    told = r"the disk of .* is full: .* MB are free and 2\.5 MB are needed for a\.bin; free some"

    def write():
        with replacing(tmp_path / "a.bin", 2_500_000) as partial:
            partial.write_text("half")
            with open("/dev/full", "w") as full:
                full.write("new")

    with pytest.raises(FullDiskError, match=told):
        write()
    assert (tmp_path / "a.bin").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.bin"]
