"""An index in a folder: what it keeps, what damage and kills do to it, and who may write."""

import os

import numpy as np
import pytest
import torch

from glscl.locks import BusyError
from glscl.video_index import ROWS, WHOLE, Entry, Filter, VideoIndex, is_address

ABOUT = {"model": "somewhere", "method": "glscl"}


def entries(*names, reason=""):
    return [Entry(f"/{name}.mp4", 10, 20, f"hash of {name}", 1.5, reason) for name in names]


def embeddings(*numbers):
    """Frames (files, 2, 8) that hold the number of their file, and a mask (files, 2)."""
    values = torch.tensor(numbers, dtype=torch.float32)
    return {"frames": values[:, None, None].expand(-1, 2, 8), "mask": torch.ones(len(numbers), 2, dtype=torch.long)}


def held(index):
    """{path: the number in its embedding}."""
    return {
        path: shard.embeddings(torch.tensor([row]))["frames"][0, 0, 0].item()
        for shard in index.shards()
        for row, paths in shard.paths.items()
        for path in paths
    }


@pytest.fixture(params=["memory", "folder"])
def index(request, tmp_path):
    return VideoIndex.in_memory() if request.param == "memory" else VideoIndex.create(tmp_path / "index", ABOUT)


def test_what_is_added_is_there_and_what_is_replaced_is_new(index):
    index.add(entries("a", "b"), embeddings(1, 2))
    index.add([*entries("broken", reason="it is broken"), *entries("c")], embeddings(3))
    assert len(index) == 3
    assert held(index) == {"/a.mp4": 1, "/b.mp4": 2, "/c.mp4": 3}
    assert [entry.path for entry in index.entries()] == ["/a.mp4", "/b.mp4", "/broken.mp4", "/c.mp4"]
    assert [entry.reason for entry in index.entries()] == ["", "", "it is broken", ""]
    index.add([entries("b")[0]._replace(hash="another"), entries("broken")[0]], embeddings(4, 5))
    index.drop(["/a.mp4"])
    for _ in range(2):
        assert held(index) == {"/b.mp4": 4, "/c.mp4": 3, "/broken.mp4": 5}
        index.tidy()
    assert len(list(index.shards())) == 1


def test_files_of_the_same_content_share_an_embedding(index):
    index.add(entries("a"), embeddings(1))
    index.add([entries("a")[0]._replace(path="/copy.mp4")], None)
    twins = [entries("b")[0], entries("b")[0]._replace(path="/twin.mp4"), entries("c")[0]]
    index.add(twins, embeddings(2, 3))
    expected = {"/a.mp4": 1, "/copy.mp4": 1, "/b.mp4": 2, "/twin.mp4": 2, "/c.mp4": 3}
    assert held(index) == expected
    index.tidy()
    assert held(index) == expected
    assert sum(len(shard.tensors["frames"]) for shard in index.shards()) == 3
    index.add([entries("a")[0]._replace(hash="hash of c"), entries("d")[0]._replace(hash="hash of a")], None)
    assert held(index) == expected | {"/a.mp4": 3, "/d.mp4": 1}


def test_vectors_are_kept_as_float16_and_all_else_as_it_is(index):
    draws = torch.randn(3, 2, 8), torch.randn(3, 2, 2), torch.ones(3, 2, dtype=torch.long)
    index.add(entries("a", "b", "c"), dict(zip(("frames", "gram", "mask"), draws, strict=True)))
    (shard,) = index.shards()
    found = shard.embeddings(torch.arange(3))
    assert found["frames"].dtype == torch.float32
    assert torch.equal(found["frames"], draws[0].half().float())
    assert torch.equal(found["gram"], draws[1])
    assert torch.equal(found["mask"], draws[2])


def test_an_index_opens_as_it_was_left(tmp_path):
    index = VideoIndex.create(tmp_path / "index", ABOUT)
    index.add(entries("a", "b"), embeddings(1, 2))
    again = VideoIndex.open(tmp_path / "index")
    assert again.about() == ABOUT | {"version": 2, "id": index.id}
    assert again.id == index.id != VideoIndex.in_memory().id
    assert held(again) == {"/a.mp4": 1, "/b.mp4": 2}
    index.add(entries("c"), embeddings(3))
    index.tidy()
    assert held(again) == {"/a.mp4": 1, "/b.mp4": 2, "/c.mp4": 3}
    copied = again.copy_to(tmp_path / "copy", ABOUT)
    assert held(copied) == held(again)
    assert list(copied.entries()) == list(again.entries())


def test_shards_stay_within_their_size(tmp_path):
    index = VideoIndex.create(tmp_path / "index", ABOUT)
    for start in range(0, 3 * ROWS, ROWS // 3):
        numbers = range(start, start + ROWS // 3)
        index.add(entries(*numbers), embeddings(*(number % 1000 for number in numbers)))
    index.tidy()
    sizes = [len(shard.paths) for shard in index.shards()]
    assert max(sizes) <= ROWS
    assert sum(sizes) == len(index)
    assert len(sizes) <= 5
    assert len(list((tmp_path / "index").glob("shard-*"))) == len(sizes)
    assert all(number == int(path[1:-4]) % 1000 for path, number in held(index).items())


@pytest.mark.parametrize("moment", ["shard", "manifest", "join"])
def test_a_kill_leaves_what_was_there(tmp_path, monkeypatch, moment):
    index = VideoIndex.create(tmp_path / "index", ABOUT)
    index.add(entries("a"), embeddings(1))
    index.add(entries("b"), embeddings(2))

    class KilledError(Exception):
        pass

    def kill(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        if moment == "shard":
            patch.setattr("glscl.files.os.replace", kill)
        elif moment == "manifest":
            patch.setattr(VideoIndex, "_place", kill)
        else:
            write = VideoIndex._write
            patch.setattr(VideoIndex, "_write", lambda *given: (write(*given), kill()))
        change = index.tidy if moment == "join" else lambda: index.add(entries("c"), embeddings(3))
        with pytest.raises(KilledError):
            change()
    left = VideoIndex.open(tmp_path / "index")
    assert held(left) == {"/a.mp4": 1, "/b.mp4": 2}
    left.add(entries("c"), embeddings(3))
    left.tidy()
    assert held(left) == {"/a.mp4": 1, "/b.mp4": 2, "/c.mp4": 3}
    assert len(list((tmp_path / "index").glob("*shard*"))) == 1


def test_one_process_writes_at_a_time(tmp_path):
    index = VideoIndex.create(tmp_path / "index", ABOUT)
    other = VideoIndex.open(tmp_path / "index")
    with (
        index.writing(),
        pytest.raises(BusyError, match=rf"^process {os.getpid()} \(since .*\) writes the index .*; wait"),
        other.writing(),
    ):
        pass
    with other.writing():
        other.add(entries("a"), embeddings(1))
    assert held(index) == {"/a.mp4": 1}


@pytest.mark.parametrize("name", ["manifest.sqlite", "shard-000000.safetensors"])
def test_damage_is_named_or_harmless(tmp_path, name):
    """Each file truncated, and overwritten, at forty places."""
    index = VideoIndex.create(tmp_path / "index", ABOUT)
    index.add(entries("a", "b"), embeddings(1, 2))
    file, rng = tmp_path / "index" / name, np.random.default_rng(0)
    whole = file.read_bytes()
    for place in rng.integers(0, len(whole), 40):
        for damaged in (whole[:place], whole[:place] + bytes(64) + whole[place + 64 :]):
            file.write_bytes(damaged)
            if said := damage(tmp_path / "index"):
                assert "is damaged" in said or "is an index of version" in said
            else:
                assert held(VideoIndex.open(tmp_path / "index")) == {"/a.mp4": 1, "/b.mp4": 2}


def damage(folder):
    """What opening and reading an index says, if it fails."""
    try:
        held(VideoIndex.open(folder))
    except ValueError as error:
        return str(error)
    return ""


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"needs a folder of its own"):
        VideoIndex.create(tmp_path, ABOUT)
    with pytest.raises(FileNotFoundError, match=r"holds no index"):
        VideoIndex.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


DAY = 86_400 * 10**9
PLACES = {
    "/a/one": (1.0, 1),
    "/a/b/two": (5.0, 2),
    "/a-b/three": (9.0, 3),
    "/a0/four": (5.0, 4),
    "/a/b 'c/five": (2.0, 5),
}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), ["one", "two", "three", "four", "five"]),
        (Filter(folder="/a"), ["one", "two", "five"]),
        (Filter(folder="/a/"), ["one", "two", "five"]),
        (Filter(folder="/a/b"), ["two"]),
        (Filter(folder="/a/b 'c"), ["five"]),
        (Filter(folder="/"), ["one", "two", "three", "four", "five"]),
        (Filter(folder="/a/one.mp4"), []),
        (Filter(shortest=2), ["two", "three", "four", "five"]),
        (Filter(shortest=2, longest=5), ["two", "four", "five"]),
        (Filter(since="1970-01-04T00:00+00:00"), ["three", "four", "five"]),
        (Filter(since="1970-01-03T00:00+00:00", before="1970-01-05T00:00+00:00"), ["two", "three"]),
        (Filter(folder="/a", longest=1.5, before="1970-01-03"), ["one"]),
    ],
)
def test_a_filter_keeps_what_passes_all_of_it(index, where, expected):
    known = [Entry(f"{path}.mp4", 1, day * DAY, path, seconds) for path, (seconds, day) in PLACES.items()]
    index.add(known, embeddings(*range(5)))
    found = [path for shard in index.shards(where) for paths in shard.paths.values() for path in paths]
    assert [path.rpartition("/")[2] for path in found] == [f"{name}.mp4" for name in expected]


def test_a_time_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match=r"a time must be like 2026-01-31 .*, got 'yesterday'; correct it\.$"):
        Filter(since="yesterday").terms()


def test_what_is_an_address():
    assert all(map(is_address, ("http://localhost:19530", "https://host/name", "videos.db")))
    assert not any(map(is_address, ("videos", "videos.db/shards")))


def test_codes_of_the_whole_index_outlive_its_shards(tmp_path):
    index = VideoIndex.create(tmp_path / "index", ABOUT)
    index.add(entries("a"), embeddings(1))
    assert index.codes(WHOLE) is None
    index.add_codes(WHOLE, lambda file: file.write_text("codes"))
    index.add(entries("b"), embeddings(2))
    index.tidy()
    assert index.codes(WHOLE).read_text() == "codes"
    index.codes(WHOLE).write_text("damaged")
    assert index.codes(WHOLE) is None
