"""A model and a split: each item encoded once, ranks of every query, and CLIP's features as a file."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glscl import encoding
from glscl.base import load_backbone
from glscl.data.dataset import Split
from glscl.encoding import encode_split, evaluate, loader_of, save_features, video_batches
from glscl.metrics import per_query
from glscl.model import GLSCL

CPU = torch.device("cpu")


@pytest.fixture
def model(corpus):
    torch.manual_seed(0)
    return GLSCL.from_clip(corpus["clip"], temporal_layers=1, decoder_layers=1)


@pytest.fixture
def live(corpus) -> Split:
    """The test split for a CLIP that is trained: tokens and pixels."""
    return dataclasses.replace(corpus["prepared"], backbone="finetuned").split("test")


@pytest.mark.parametrize("batch_size", [5, 12])
def test_every_item_is_encoded_once_whatever_the_batch(live, model, monkeypatch, batch_size):
    expected = encode_split(model, live)
    seen = {"text": [], "video": []}
    for side, indices in seen.items():
        read = getattr(live, f"{side}_batch")
        monkeypatch.setattr(
            live, f"{side}_batch", lambda index, read=read, to=indices: to.append(index.tolist()) or read(index)
        )
    found = encode_split(model.train(), live, batch_size)
    assert not model.training
    for batches in seen.values():
        assert [item for batch in batches for item in batch] == list(range(12))
        assert max(map(len, batches)) == batch_size
    for side, other in zip(found, expected, strict=True):
        for one, two in zip(side, other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_the_ranks_are_those_of_the_scores_of_every_pair(corpus, model):
    split = corpus["prepared"].split("val")
    with torch.inference_mode():
        scores = model.eval().similarity(*encode_split(model, split)).numpy()
    expected, found = per_query(scores, split.video_of_text.numpy()), evaluate(model, split)
    for direction in ("t2v", "v2t"):
        np.testing.assert_array_equal(found[direction]["rank"], expected[direction]["rank"])


def test_a_video_that_another_split_had_is_not_encoded_again(corpus, live, tmp_path, monkeypatch):
    known = {}
    save_features(live, corpus["clip"], tmp_path / "one.safetensors", known)
    assert set(known) == set(live.videos)
    monkeypatch.setattr(type(live), "video_batch", None)  # it would read frames
    save_features(live, corpus["clip"], tmp_path / "two.safetensors", known)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_features_are_those_of_clip_in_half_precision(corpus, live, model, tmp_path):
    shapes = save_features(live, corpus["clip"], tmp_path / "new/test.safetensors", batch_size=7)
    kept = load_file(tmp_path / "new/test.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in kept.items()} == shapes
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["test.safetensors"]
    texts, videos = live.text_batch(torch.arange(12)), live.normalised(live.video_batch(torch.arange(12)))
    with torch.inference_mode():
        sentence, words = model.text_features(texts["token_ids"], texts["word_mask"])
        frames = model.frame_features(videos["pixels"], videos["frame_mask"])
    for name, expected in (("sentence", sentence), ("words", words), ("frames", frames)):
        assert kept[name].dtype == torch.float16
        torch.testing.assert_close(kept[name].float(), expected, atol=2e-2, rtol=2e-3)
    assert torch.equal(kept["word_mask"], texts["word_mask"])
    assert torch.equal(kept["frame_mask"], videos["frame_mask"])


def test_features_beyond_half_precision_are_refused_and_nothing_is_written(corpus, live, tmp_path):
    clip = load_backbone(corpus["prepared"].clip, "frozen", corpus["processor"])
    clip.visual_projection.weight.data *= 1e6
    with pytest.raises(ValueError, match="frames must be finite in float16"):
        save_features(live, clip, tmp_path / "test.safetensors")
    assert not list(tmp_path.iterdir())


def test_processes_read_what_this_one_reads_in_every_epoch(corpus, monkeypatch):
    data = dataclasses.replace(corpus["prepared"], backbone="finetuned").split("train")
    for epoch in (0, 1):
        data.draw, found = (0, epoch), []
        for count in (0, 2):
            monkeypatch.setattr(encoding, "reading_processes", lambda device, count=count: count)
            found.append(list(loader_of(data, data, CPU, [[3, 1], [50, 2]], torch.Generator())))
        for here, there in zip(*found, strict=True):
            assert here["images"].dtype == torch.uint8
            assert all(torch.equal(here[name], there[name]) for name in here)
        videos = [*video_batches(data, torch.tensor([5, 0, 3]), CPU, 2)]
        assert [len(batch["pixels"]) for batch in videos] == [2, 1]


def test_a_gpu_is_fed_by_the_cores_that_fall_to_it(monkeypatch):
    monkeypatch.setattr(encoding, "CORES", 16)
    for gpus, processes in ((1, 15), (8, 1), (32, 1)):
        monkeypatch.setattr(encoding.torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert encoding.reading_processes(torch.device("cuda")) == processes
    assert encoding.reading_processes(CPU) == 0
