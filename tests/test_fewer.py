"""Fewer captions: which rows stay, that states follow them, and that the prepared corpus is never written to."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from glscl.fewer import fewer_captions
from glscl.splits import open_split


def opened(corpus, work, captions, name="train", backbone="frozen"):
    return open_split(work, captions, name, corpus["inputs"], backbone)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "states").iterdir()}


@pytest.mark.parametrize("per_video", [1, 3])
def test_each_training_video_keeps_its_first_captions(corpus, tmp_path, per_video):
    captions = corpus["captions"].sample(frac=1, random_state=0).sort_values("split", kind="stable")
    kept = fewer_captions(corpus["work"], captions, per_video, tmp_path / "few", "finetuned")
    for split, rows in captions.groupby("split"):
        expected = [
            caption
            for video in rows["video"].unique()
            for caption in rows.loc[rows["video"] == video, "text"].tolist()[: per_video if split == "train" else None]
        ]
        assert sorted(kept.loc[kept["split"] == split, "text"]) == sorted(expected)
    assert kept.index.tolist() == [row for row in captions.index if row in set(kept.index)]


def test_states_belong_to_the_captions_that_are_left(corpus, tmp_path):
    kept = fewer_captions(corpus["work"], corpus["captions"], 2, tmp_path / "few", "frozen")
    few, every = opened(corpus, tmp_path / "few", kept), opened(corpus, corpus["work"], corpus["captions"])
    assert len(few) == 2 * len(few.videos)
    assert few.videos == every.videos
    place = {caption: row for row, caption in enumerate(every.captions["caption_id"])}
    same = torch.tensor([place[caption] for caption in few.captions["caption_id"]])
    rows = torch.arange(len(few))
    for (key, tensor), expected in zip(few.text_batch(rows).items(), every.text_batch(same).values(), strict=True):
        assert torch.equal(tensor, expected), key
    assert torch.equal(
        few.video_batch(few.video_of_text)["frames"], every.video_batch(every.video_of_text[same])["frames"]
    )


@pytest.mark.parametrize("backbone", ["frozen", "finetuned"])
def test_zero_keeps_everything_and_other_splits_never_change(corpus, tmp_path, backbone):
    kept = fewer_captions(corpus["work"], corpus["captions"], 0, tmp_path / "all", backbone)
    assert kept.equals(corpus["captions"])
    few = fewer_captions(corpus["work"], corpus["captions"], 1, tmp_path / "few", backbone)
    for folder, table, names in ((tmp_path / "all", kept, ["train", "val", "test"]), (tmp_path / "few", few, ["val"])):
        for name in names:
            found, expected = (
                opened(corpus, place, captions, name, backbone)
                for place, captions in ((folder, table), (corpus["work"], corpus["captions"]))
            )
            assert found.fingerprint() == expected.fingerprint()


def test_a_folder_is_written_again_and_the_corpus_stays(corpus, tmp_path):
    before = digests(corpus["work"])
    for per_video in (0, 1, 2, 0, 3):
        kept = fewer_captions(corpus["work"], corpus["captions"], per_video, tmp_path / "few", "frozen")
        assert len(opened(corpus, tmp_path / "few", kept)) == (kept["split"] == "train").sum()
    assert digests(corpus["work"]) == before


def test_what_would_damage_the_corpus_or_fit_no_captions_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="must not be the corpus itself"):
        fewer_captions(corpus["work"], corpus["captions"], 1, corpus["work"] / "states/..", "frozen")
    with pytest.raises(ValueError, match="captions_per_video must be a number of at least 0, got -1"):
        fewer_captions(corpus["work"], corpus["captions"], -1, tmp_path, "frozen")
    states = load_file(corpus["work"] / "states/train.safetensors")
    (tmp_path / "states").mkdir()
    save_file({key: tensor[1:] for key, tensor in states.items()}, tmp_path / "states/train.safetensors")
    with pytest.raises(ValueError, match=r"a text for each of \d+ training captions, got \d+"):
        fewer_captions(tmp_path, corpus["captions"], 1, tmp_path / "few", "frozen")
