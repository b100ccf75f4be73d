"""Splits: cached states equal live encoding, batches pair texts with their videos, damaged states are refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from glscl.model import GLSCL
from glscl.splits import Split, encode_texts, encode_videos, open_split
from glscl.training import TrainSettings, train
from glscl.video import FrameStore, Sampling, write_store


@pytest.fixture
def model(corpus):
    torch.manual_seed(0)
    return GLSCL.from_clip(corpus["clip"], temporal_layers=1, decoder_layers=1).eval()


def splits(corpus, name="test"):
    return [open_split(corpus["work"], corpus["captions"], name, corpus["inputs"], b) for b in ("frozen", "finetuned")]


def test_cached_states_score_like_the_whole_model(corpus, model):
    cached, live = (model.similarity(*split.encode(model)) for split in splits(corpus))
    torch.testing.assert_close(cached, live, atol=3e-3, rtol=0)  # the states are kept in half precision


def test_a_batch_pairs_each_text_with_its_own_video(corpus, model):
    cached, live = splits(corpus, "train")
    index = [40, 3, 3, 97]
    for split in (cached, live):
        with torch.inference_mode():
            videos = encode_videos(model, split.__getitems__(index))
            everything = split.encode(model)[1]
        own = [split.videos.index(split.captions["video"][i]) for i in index]
        torch.testing.assert_close(videos.frames, everything.frames[own], atol=1e-4, rtol=1e-4)


def test_encoding_twice_gives_the_same_numbers(corpus, model):
    split = splits(corpus)[0]
    assert torch.equal(*(split.encode(model)[0].concepts for _ in range(2)))


def test_a_split_without_captions_is_refused(corpus):
    with pytest.raises(ValueError, match="got none"):
        Split.from_store(corpus["captions"].iloc[:0], FrameStore(corpus["work"] / "frames"), corpus["inputs"])


def test_states_that_are_not_finite_are_refused(corpus, tmp_path):
    states = load_file(corpus["work"] / "states/test.safetensors")
    states["frames"][1, 2, 3] = float("nan")
    save_file(states, tmp_path / "test.safetensors")
    captions = corpus["captions"].query("split == 'test'")
    with pytest.raises(ValueError, match=r"frames in .*must be finite"):
        Split.from_states(captions, tmp_path / "test.safetensors")


def test_states_of_other_captions_are_refused(corpus):
    captions = corpus["captions"].query("split == 'test'").iloc[:-1]
    with pytest.raises(ValueError, match=r"must hold \(11, 11\) texts and videos, got \(12, 12\)"):
        Split.from_states(captions, corpus["work"] / "states/test.safetensors")


def test_fingerprints_tell_data_apart(corpus):
    test, train = splits(corpus)[0], splits(corpus, "train")[0]
    assert test.fingerprint() == splits(corpus)[0].fingerprint()
    assert test.fingerprint() != train.fingerprint()


def test_a_text_alone_is_encoded_as_in_its_batch(corpus, model):
    for split in splits(corpus):
        with torch.inference_mode():
            alone = encode_texts(model, split.text_batch(torch.tensor([5])))
        torch.testing.assert_close(alone.concepts[0], split.encode(model)[0].concepts[5], atol=1e-4, rtol=1e-4)


@pytest.fixture
def drawing(corpus, tmp_path):
    """Training captions of 12 clips, with a store that keeps three places per segment."""
    captions = corpus["captions"].query("split == 'train'")
    captions = captions[captions["video"].isin(captions["video"].unique()[:12])]
    write_store(
        tmp_path / "frames",
        captions.drop_duplicates("video"),
        Sampling(4, offsets=3),
        corpus["inputs"].size,
        workers=1,
        progress=False,
    )
    return Split.from_store(captions, FrameStore(tmp_path / "frames"), corpus["inputs"])


def test_a_draw_changes_the_frames_of_training_and_nothing_else(drawing, model):
    index = [5, 40, 5, 17]
    evaluated, before = drawing.__getitems__(index), drawing.encode(model)[1].frames
    drawing.draw = (0, 3)
    drawn = drawing.__getitems__(index)
    assert not torch.equal(drawn["pixels"], evaluated["pixels"])
    assert torch.equal(drawn["token_ids"], evaluated["token_ids"])
    assert torch.equal(drawn["pixels"][0], drawn["pixels"][2])
    assert torch.equal(drawing.__getitems__(index[::-1])["pixels"].flip(0), drawn["pixels"])
    assert torch.equal(drawing.encode(model)[1].frames, before)
    assert drawing.sample(3).draw is None


def test_training_draws_anew_in_every_epoch_and_validation_never(drawing, corpus, model, tmp_path, monkeypatch):
    draws, read = [], FrameStore.read

    def record(store, rows, draw=None):
        draws.append((store.folder.parent == tmp_path, draw))
        return read(store, rows, draw)

    monkeypatch.setattr(FrameStore, "read", record)
    settings = TrainSettings(2, 32, 1e-3, 1e-6, 0.2, 0.1, 1.0, "finetuned")
    train(model, drawing, splits(corpus, "val")[1], settings, 7, tmp_path / "run", progress=False)
    assert {draw for training, draw in draws if training} == {(7, 0), (7, 1)}
    assert {draw for training, draw in draws if not training} == {None}
