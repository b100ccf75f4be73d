"""An index in Milvus Lite, in a file and at an address: what is published there, found there and dropped there."""

import contextlib
import socket
import subprocess
import sys
import time

import pytest
import torch
from torch.nn.functional import normalize

from glscl import milvus_index
from glscl.milvus_index import MilvusIndex
from glscl.video_index import EVERYTHING, Entry, Filter, VideoIndex

ABOUT = {"model": "somewhere", "method": "glscl", "fingerprint": "0123"}
FILES, WIDTH = 40, 16


def folder_of(place, names, seed=0):
    """An index of videos of two vectors each, and a mask that stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    index = VideoIndex.create(place, {})
    entries = [Entry(f"{name}.mp4", 10, 10**9 * row, f"hash of {name}", float(row)) for row, name in enumerate(names)]
    frames = normalize(torch.randn(len(names), 2, WIDTH, generator=generator), dim=-1)
    index.add(entries, {"frames": frames, "mask": torch.ones(len(names), 2, dtype=torch.long)})
    return index


def vectors(embeddings):
    return embeddings["frames"]


def held(index: VideoIndex):
    """The embeddings of every path."""
    return {
        path: {name: tensor[0] for name, tensor in shard.embeddings(torch.tensor([row])).items()}
        for shard in index.shards()
        for row, paths in shard.paths.items()
        for path in paths
    }


@pytest.fixture
def there(tmp_path):
    with contextlib.closing(MilvusIndex(str(tmp_path / "videos.db"))) as index:
        yield index


def test_the_nearest_are_found_with_their_embeddings(there, tmp_path):
    names = [f"/videos/{'a' if row % 2 else 'b'}/{row}" for row in range(FILES)]
    own = folder_of(tmp_path / "index", names)
    assert there.publish(own, ABOUT, vectors, progress=False) == (FILES, 0, 0)
    assert len(there) == FILES
    assert there.about() == ABOUT
    expected = held(own)
    query = torch.randn(WIDTH, generator=torch.Generator().manual_seed(5))
    best = {path: (one["frames"] @ query).amax().item() for path, one in expected.items()}
    for where, passing in (
        (EVERYTHING, set(best)),
        (Filter(folder="/videos/a"), {path for path in best if "/a/" in path}),
        (Filter(shortest=30), {path for path in best if int(path.split("/")[-1][:-4]) >= 30}),
        (Filter(folder="/elsewhere"), set()),
    ):
        paths, embeddings = there.candidates(query, 7, where)
        assert set(paths) == set(sorted(passing, key=best.get)[-7:])
        for row, path in enumerate(paths):
            for name, tensor in expected[path].items():
                assert torch.equal(embeddings[name][row], tensor)
                assert embeddings[name].dtype == tensor.dtype


def test_only_what_has_changed_is_sent_and_what_is_gone_is_dropped(there, tmp_path, monkeypatch):
    monkeypatch.setattr(milvus_index, "BATCH", 4)
    own, other = folder_of(tmp_path / "one", "abcdef"), folder_of(tmp_path / "other", "uvwxyz", seed=1)
    for index in (own, other):
        assert there.publish(index, ABOUT, vectors, progress=False) == (6, 0, 0)
        assert there.publish(index, ABOUT, vectors, progress=False) == (0, 6, 0)
    changed = Entry("b.mp4", 11, 10**9, "another hash", 1.0)
    frames = torch.full((1, 2, WIDTH), 0.5)
    own.add([changed], {"frames": frames, "mask": torch.ones(1, 2, dtype=torch.long)})
    own.drop(["a.mp4", "f.mp4"])
    assert there.publish(own, ABOUT, vectors, progress=False) == (1, 3, 2)
    assert len(there) == 10
    paths, embeddings = there.candidates(torch.ones(WIDTH), 10, EVERYTHING)
    assert sorted(paths) == [f"{name}.mp4" for name in "bcdeuvwxyz"]
    assert torch.equal(embeddings["frames"][paths.index("b.mp4")], frames[0])


def test_a_publication_that_was_stopped_goes_on(there, tmp_path, monkeypatch):
    monkeypatch.setattr(milvus_index, "BATCH", 4)
    own, calls = folder_of(tmp_path / "index", range(12)), []

    def stopped(embeddings):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(embeddings["frames"]))
        return vectors(embeddings)

    with pytest.raises(KeyboardInterrupt):
        there.publish(own, ABOUT, stopped, progress=False)
    assert len(there) == 8
    assert there.publish(own, ABOUT, vectors, progress=False) == (4, 8, 0)
    assert len(there) == 12


def test_hostile_names_are_names(there, tmp_path):
    folders = ["/a 'b", '/c "d', "/e\\f", "/g\nh", "/%_", "/ü", '/" or path != "']
    own = folder_of(tmp_path / "index", [f"{folder}/{name}" for folder in folders for name in "xy"])
    there.publish(own, ABOUT, vectors, progress=False)
    for folder in folders:
        paths, _ = there.candidates(torch.ones(WIDTH), 10, Filter(folder=folder))
        assert sorted(paths) == [f"{folder}/x.mp4", f"{folder}/y.mp4"]


def test_embeddings_larger_than_a_field_take_several(there, tmp_path, monkeypatch):
    monkeypatch.setattr(milvus_index, "TEXT", 100)
    own = folder_of(tmp_path / "index", "abc")
    there.publish(own, ABOUT, vectors, progress=False)
    paths, embeddings = there.candidates(torch.ones(WIDTH), 3, EVERYTHING)
    for row, path in enumerate(paths):
        assert torch.equal(embeddings["frames"][row], held(own)[path]["frames"])


def test_another_model_and_nothing_there(there, tmp_path):
    there.publish(folder_of(tmp_path / "one", "ab"), ABOUT, vectors, progress=False)
    with pytest.raises(ValueError, match=r"videos\.db has videos of glscl 0123, got those of x_pool 9; publish them"):
        there.publish(folder_of(tmp_path / "two", "c"), {"method": "x_pool", "fingerprint": "9"}, vectors)
    with pytest.raises(FileNotFoundError, match=r"other\.db holds no index; publish one"):
        MilvusIndex.open(str(tmp_path / "other.db"))
    assert not (tmp_path / "other.db").exists()
    with contextlib.closing(MilvusIndex(str(tmp_path / "empty.db"))) as empty:
        assert empty.about() == {}
    with pytest.raises(FileNotFoundError, match=r"empty\.db holds no index; publish one"):
        MilvusIndex.open(str(tmp_path / "empty.db"))


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def test_several_clients_of_a_server_and_nobody_there(tmp_path):
    """Two folders, as two machines would have them, are published at an address, and a third client finds both."""
    port = free_port()
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", tmp_path / "data", "--host", "127.0.0.1"]
    server = subprocess.Popen([*map(str, command), "--port", str(port)], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.2)
        for seed, names in enumerate(("abc", "xyz")):
            with contextlib.closing(MilvusIndex(address)) as client:
                client.publish(folder_of(tmp_path / names, names, seed), ABOUT, vectors, progress=False)
        with contextlib.closing(MilvusIndex.open(address)) as client:
            assert sorted(client.candidates(torch.ones(WIDTH), 9, EVERYTHING)[0]) == [f"{n}.mp4" for n in "abcxyz"]
    finally:
        server.terminate()
        server.wait()
    with pytest.raises(ValueError, match=r"^Milvus at http://127\.0\.0\.1:\d+ does not answer .* see that it runs"):
        MilvusIndex(f"http://127.0.0.1:{free_port()}")
