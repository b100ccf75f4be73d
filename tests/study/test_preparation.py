"""From annotation files and videos to frames and features: what is written, what is left out, what is replaced."""

import json
import shutil

import pandas as pd
import pytest
import torch

from glscl.data.decoding import VideoError
from glscl.data.frame_store import FrameStore
from glscl.files import write_json
from glscl.study.preparation import encode, prepare

KEPT = {"train": 6, "val": 3, "test": 4}


@pytest.fixture(scope="module")
def source(bundled, tmp_path_factory):
    """A corpus of 13 clips of `scenes`, with all their captions."""
    folder = tmp_path_factory.mktemp("scenes")
    captions = pd.read_csv(bundled / "scenes/captions.csv")
    kept = {split: captions.loc[captions["split"] == split, "video"].unique()[:count] for split, count in KEPT.items()}
    captions = captions[[row.split in kept and row.video in kept[row.split] for row in captions.itertuples()]]
    captions.to_csv(folder / "captions.csv", index=False)
    (folder / "videos").mkdir()
    for video in captions["video"].unique():
        shutil.copy(bundled / f"scenes/videos/{video}.mp4", folder / "videos")
    return folder


@pytest.fixture
def inputs(bundled):
    return {"clip": str(bundled / "tiny-clip"), "backbone": "frozen", "frames": 4, "words": 12}


def prepared(source, inputs, folder, **settings):
    return prepare("scenes", {"folder": str(source)}, inputs, folder, progress=False, **settings)


def test_a_corpus_for_a_frozen_clip_holds_captions_frames_and_features(source, inputs, tmp_path):
    found = prepared(source, inputs, tmp_path)
    assert found.splits()["videos"].to_dict() == KEPT
    assert found.store.sampling.offsets == 1
    captions = pd.read_parquet(tmp_path / "captions.parquet")
    assert list(captions) == ["split", "video", "start", "end", "caption_id", "text", "of"]
    pd.testing.assert_frame_equal(captions, found.captions[list(captions)], check_dtype=False)
    encoded = encode(tmp_path, inputs)
    assert {path.name for path in tmp_path.iterdir()} == {"captions.parquet", "frames", "features"}
    assert {path.stem for path in (tmp_path / "features").iterdir()} == set(KEPT)
    assert encoded.shapes["split"].tolist() == list(KEPT)
    texts = (captions["split"] == "train").sum()
    assert encoded.shapes.loc[0, ["words", "frame_mask"]].tolist() == [f"{texts} x 12 x 128", "6 x 4"]
    assert [len(encoded.corpus.split(name).videos) for name in KEPT] == list(KEPT.values())


def test_a_clip_that_is_not_whole_costs_no_decoding(source, inputs, bundled, tmp_path):
    clip = shutil.copytree(bundled / "tiny-clip", tmp_path / "clip")
    config = json.loads((clip / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 1
    (clip / "config.json").write_text(json.dumps(config))
    for given, message in (
        ({"clip": str(clip)}, r"exactly the weights of CLIPModel .* 16 missing"),
        ({"words": 65}, "reads at most 64 tokens of a text, got words = 65"),
        ({"clip": str(tmp_path / "none")}, "no folder and no name of a hub"),
    ):
        with pytest.raises(ValueError, match=message):
            prepared(source, inputs | given, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_the_summary_counts_texts_that_are_cut_and_can_be_written(source, inputs, tmp_path):
    found = prepared(source, inputs | {"words": 20}, tmp_path, sampling="fps", fps=2.0)
    lengths = found.captions.loc[found.captions["split"] == "test", "tokens"]
    assert 0 < (lengths > 20).sum() < len(lengths)
    write_json(tmp_path / "data.json", found.summary())
    summary = json.loads((tmp_path / "data.json").read_text())
    assert summary["splits"]["test"]["cut"] == (lengths > 20).sum()
    assert summary["sampling"] == "fps at 2 per second"
    assert found.answer() == f"All 13 videos decode; of their {len(found.captions)} captions 4 are test queries."


def test_a_lost_video_leaves_with_its_captions_or_stops_everything(source, inputs, tmp_path):
    corpus = tmp_path / "broken"
    shutil.copytree(source, corpus)
    lost = sorted((corpus / "videos").iterdir())[0]
    lost.write_bytes(lost.read_bytes()[:200])
    with pytest.raises(VideoError, match=lost.stem):
        prepared(corpus, inputs, tmp_path / "work")
    found = prepared(corpus, inputs, tmp_path / "work", max_missing=1)
    ((video, reason),) = found.summary()["missing_videos"]
    assert video == lost.stem
    assert f"videos/{lost.name}" in reason
    assert str(tmp_path) not in reason
    assert video not in set(pd.read_parquet(tmp_path / "work/captions.parquet")["video"])
    assert found.answer().startswith("12 of 13 videos decode")
    took, listed = found.work().split("\n")
    assert took.startswith("On this machine ")
    assert listed == f"{video}: {reason}"


def test_a_trained_clip_gets_more_frames_and_no_features(source, inputs, tmp_path):
    inputs |= {"backbone": "finetuned"}
    assert prepared(source, inputs, tmp_path).store.sampling.offsets == 3
    (tmp_path / "features").mkdir()
    (tmp_path / "features/train.safetensors").touch()
    encoded = encode(tmp_path, inputs)
    assert [path.name for path in (tmp_path / "features").iterdir()] == [".keep"]
    assert encoded.shapes.empty
    assert encoded.scale() is None
    assert "finetuned CLIP of" in encoded.answer()
    batch = encoded.corpus.split("val").__getitems__([0])
    assert batch["images"].shape[:2] == (1, 4)


def test_features_of_splits_that_are_gone_do_not_stay(source, inputs, tmp_path):
    prepared(source, inputs, tmp_path)
    (tmp_path / "features").mkdir()
    (tmp_path / "features/test_multi.safetensors").touch()
    encode(tmp_path, inputs)
    assert {path.stem for path in (tmp_path / "features").iterdir()} == set(KEPT)


def test_the_scale_is_that_of_the_true_pairs(source, inputs, tmp_path):
    prepared(source, inputs, tmp_path)
    encoded = encode(tmp_path, inputs)
    scale, split = encoded.scale(), encoded.corpus.split("val")
    texts, videos = split.text_batch(torch.arange(len(split))), split.video_batch(split.video_of_text)
    assert scale["pairs"] == len(split)
    spreads = [(frames @ text).std().item() for text, frames in zip(texts["sentence"], videos["frames"], strict=True)]
    assert scale["spread over frames"] == pytest.approx(sum(spreads) / len(spreads), rel=1e-4)
    assert f"{scale['frame norm']:.1f}" in encoded.answer()
    assert len(encoded.answer().split()) <= 25


def test_two_preparations_give_the_same_features(source, inputs, tmp_path):
    for name in ("one", "two"):
        prepared(source, inputs, tmp_path / name)
        encode(tmp_path / name, inputs)
    for name in KEPT:
        one, two = ((tmp_path / folder / f"features/{name}.safetensors").read_bytes() for folder in ("one", "two"))
        assert one == two
    assert FrameStore(tmp_path / "one/frames").hashes == FrameStore(tmp_path / "two/frames").hashes
