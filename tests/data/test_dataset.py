"""Splits: features equal live encoding, batches pair texts with their videos, damaged files are refused."""

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from glscl.data.dataset import PreparedCorpus, Split
from glscl.data.frame_store import FrameStore, Sampling, write_store
from glscl.encoding import encode_split, encode_texts, encode_videos
from glscl.model import GLSCL
from glscl.training.trainer import TrainSettings, train


@pytest.fixture
def model(corpus):
    torch.manual_seed(0)
    return GLSCL.from_clip(corpus["clip"], temporal_layers=1, decoder_layers=1).eval()


def splits(corpus, name="test", per_video=0):
    """The split over a frozen CLIP and over one that is trained."""
    return [
        dataclasses.replace(corpus["prepared"], backbone=backbone, captions_per_video=per_video).split(name)
        for backbone in ("frozen", "finetuned")
    ]


def test_features_score_like_the_whole_model(corpus, model):
    cached, live = (model.similarity(*encode_split(model, split)) for split in splits(corpus))
    torch.testing.assert_close(cached, live, atol=3e-3, rtol=0)  # features are kept in half precision


def test_a_batch_pairs_each_text_with_its_own_video(corpus, model):
    cached, live = splits(corpus, "train")
    index = [40, 3, 3, 97]
    for split in (cached, live):
        with torch.inference_mode():
            videos = encode_videos(model, split.normalised(split.__getitems__(index)))
            everything = encode_split(model, split)[1]
        own = [split.videos.index(split.captions["video"][i]) for i in index]
        torch.testing.assert_close(videos.frames, everything.frames[own], atol=1e-4, rtol=1e-4)


def test_encoding_twice_gives_the_same_numbers(corpus, model):
    split = splits(corpus)[0]
    assert torch.equal(*(encode_split(model, split)[0].concepts for _ in range(2)))


def test_a_split_without_captions_is_refused(corpus):
    with pytest.raises(ValueError, match="got none"):
        Split.from_store(corpus["captions"].iloc[:0], FrameStore(corpus["work"] / "frames"), corpus["processor"])


def test_features_that_are_not_finite_are_refused(corpus, tmp_path):
    features = load_file(corpus["work"] / "features/test.safetensors")
    features["frames"][1, 2, 3] = float("nan")
    save_file(features, tmp_path / "test.safetensors")
    captions = corpus["captions"].query("split == 'test'")
    with pytest.raises(ValueError, match=r"frames in .*must be finite"):
        Split.from_features(captions, tmp_path / "test.safetensors")


def test_features_of_other_captions_are_refused(corpus):
    captions = corpus["captions"].query("split == 'test'").iloc[:-1]
    with pytest.raises(ValueError, match=r"must hold \(11, 11\) texts and videos, got \(12, 12\)"):
        Split.from_features(captions, corpus["work"] / "features/test.safetensors")


def test_fingerprints_tell_data_apart(corpus):
    test, train = splits(corpus)[0], splits(corpus, "train")[0]
    assert test.fingerprint() == splits(corpus)[0].fingerprint()
    assert test.fingerprint() != train.fingerprint()


def test_a_text_alone_is_encoded_as_in_its_batch(corpus, model):
    for split in splits(corpus):
        with torch.inference_mode():
            alone = encode_texts(model, split.text_batch(torch.tensor([5])))
        torch.testing.assert_close(alone.concepts[0], encode_split(model, split)[0].concepts[5], atol=1e-4, rtol=1e-4)


@pytest.fixture
def drawing(corpus, tmp_path):
    """Training captions of 12 clips, with a store that keeps three sample positions per segment."""
    captions = corpus["captions"].query("split == 'train'")
    captions = captions[captions["video"].isin(captions["video"].unique()[:12])]
    write_store(
        tmp_path / "frames",
        captions.drop_duplicates("video"),
        Sampling(4, offsets=3),
        corpus["processor"].size,
        workers=1,
        progress=False,
    )
    return Split.from_store(captions, FrameStore(tmp_path / "frames"), corpus["processor"])


def test_a_draw_changes_the_frames_of_training_and_nothing_else(drawing, model):
    index = [5, 40, 5, 17]
    evaluated, before = drawing.__getitems__(index), encode_split(model, drawing)[1].frames
    drawing.draw = (0, 3)
    drawn = drawing.__getitems__(index)
    assert not torch.equal(drawn["images"], evaluated["images"])
    assert torch.equal(drawn["token_ids"], evaluated["token_ids"])
    assert torch.equal(drawn["images"][0], drawn["images"][2])
    assert torch.equal(drawing.__getitems__(index[::-1])["images"].flip(0), drawn["images"])
    assert torch.equal(encode_split(model, drawing)[1].frames, before)
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


def test_opening_reads_the_captions_in_the_folder(corpus):
    prepared = corpus["prepared"]
    opened = PreparedCorpus.open(str(corpus["work"]), prepared.clip, "frozen", 24)
    assert opened.captions["text"].tolist() == corpus["captions"]["text"].tolist()
    assert opened.processor.words == 24
    assert opened.split("val").fingerprint() == prepared.split("val").fingerprint()


@pytest.mark.parametrize("per_video", [1, 3])
def test_each_training_video_keeps_its_first_captions(corpus, per_video):
    captions = corpus["captions"].query("split == 'train'")
    expected = [text for _, rows in captions.groupby("video") for text in rows["text"].tolist()[:per_video]]
    for few, every in zip(splits(corpus, "train", per_video), splits(corpus, "train"), strict=True):
        assert few.videos == every.videos
        assert sorted(few.captions["text"]) == sorted(expected)


def test_few_captions_have_the_rows_that_they_had_among_all(corpus):
    for few, every in zip(splits(corpus, "train", 2), splits(corpus, "train"), strict=True):
        assert len(few) == 2 * len(few.videos)
        position = {caption: row for row, caption in enumerate(every.captions["caption_id"])}
        same = torch.tensor([position[caption] for caption in few.captions["caption_id"]])
        for (name, rows), expected in zip(
            few.text_batch(torch.arange(len(few))).items(), every.text_batch(same).values(), strict=True
        ):
            assert torch.equal(rows, expected), name
        for (name, rows), expected in zip(
            few.video_batch(few.video_of_text).items(),
            every.video_batch(every.video_of_text[same]).values(),
            strict=True,
        ):
            assert torch.equal(rows, expected), name


def test_captions_in_another_order_keep_the_first_of_each_video(corpus):
    shuffled = corpus["prepared"].captions.sample(frac=1, random_state=0)
    prepared = dataclasses.replace(corpus["prepared"], captions=shuffled, backbone="finetuned", captions_per_video=1)
    training = shuffled[shuffled["split"] == "train"]
    assert prepared.split("train").captions["caption_id"].tolist() == (
        training.drop_duplicates("video")["caption_id"].tolist()
    )


def test_zero_keeps_everything_and_other_splits_never_change(corpus):
    for name, per_video in (("train", 0), ("val", 0), ("val", 1), ("test", 1)):
        for few, every in zip(splits(corpus, name, per_video), splits(corpus, name), strict=True):
            assert few.fingerprint() == every.fingerprint()
    few, every = splits(corpus, "train", 1)[0], splits(corpus, "train")[0]
    assert few.fingerprint() != every.fingerprint()


def test_a_negative_number_of_captions_is_refused(corpus):
    with pytest.raises(ValueError, match="captions_per_video must be a number of at least 0, got -1"):
        dataclasses.replace(corpus["prepared"], captions_per_video=-1)


def test_features_that_fit_no_captions_are_refused_before_any_is_left_out(corpus, tmp_path):
    shutil.copy(corpus["work"] / "captions.parquet", tmp_path)
    (tmp_path / "features").mkdir()
    features = load_file(corpus["work"] / "features/train.safetensors")
    save_file({name: tensor[1:] for name, tensor in features.items()}, tmp_path / "features/train.safetensors")
    prepared = dataclasses.replace(corpus["prepared"], folder=tmp_path, captions_per_video=1)
    with pytest.raises(ValueError, match=r"must hold \(\d+, 48\) texts and videos, got \(\d+, 47\)"):
        prepared.split("train")


def test_a_split_of_few_captions_draws_frames_like_all(drawing):
    few = drawing.first_captions(1)
    assert few.videos == drawing.videos
    few.draw = drawing.draw = (0, 3)
    row = drawing.captions.index[drawing.captions["video"] == few.captions["video"][7]][0]
    assert torch.equal(few.__getitems__([7])["images"], drawing.__getitems__([int(row)])["images"])
