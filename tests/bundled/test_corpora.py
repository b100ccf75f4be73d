"""The bundled corpora: reproducible bytes, captions that agree with their events, splits, and the files in data/."""

import dataclasses

import pandas as pd
import pytest

from glscl.bundled import corpora, drawing
from glscl.bundled.grammar import FACTORS, read_told
from tests import ROOT

DATA = ROOT / "data"
BOTH = pytest.mark.parametrize("corpus", [corpora.SCENES, corpora.STORIES], ids=["scenes", "stories"])


def small(corpus):
    """The same corpus with few videos."""
    return dataclasses.replace(corpus, train=6, val=2, test=4, multi=min(corpus.multi, 3))


@BOTH
def test_one_clip_has_the_same_bytes_twice_and_others_differ(corpus, tmp_path):
    paths = []
    for folder, number in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        corpora.write_video(corpus, f"{corpus.name}{number:04d}", tmp_path / folder)
        paths.append(tmp_path / folder / f"{corpus.name}{number:04d}.mp4")
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again
    assert first != other
    assert not list(tmp_path.rglob("*.part"))


@BOTH
def test_a_clip_lasts_as_long_as_its_events_say(corpus, tmp_path):
    import av

    video = f"{corpus.name}0003"
    corpora.write_video(corpus, video, tmp_path)
    with av.open(str(tmp_path / f"{video}.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == sum(corpora.video_events(corpus, video)[1])
    assert frames[0].shape == (64, 64, 3)
    table = corpora.events_table(small(corpus)).query("video == @video")
    assert table.end.max() == len(frames) / drawing.FPS


def test_workers_do_not_change_the_bytes(tmp_path):
    corpus = dataclasses.replace(corpora.SCENES, train=1, val=1, test=1, multi=1)
    for workers in (1, 2):
        corpora.build(corpus, tmp_path / str(workers), workers)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file


@BOTH
def test_told_facts_hold_in_the_order_of_time(corpus):
    for number in range(200):
        video = f"{corpus.name}{number:04d}"
        events = [
            {factor: getattr(event, factor) for factor in (*FACTORS, "distractor")}
            for event in corpora.video_events(corpus, video)[0]
        ]
        for text, cell in corpora.video_captions(corpus, video, 2):
            told = read_told(cell)
            assert len(told) in ((1, 2) if corpus is corpora.SCENES else (4, 5)), text
            later = iter(events)
            assert all(any(facts.items() <= event.items() for event in later) for facts in told), (text, cell)


@BOTH
def test_splits_share_no_video(corpus):
    ids = corpora.video_ids(corpus)
    assert {split: len(videos) for split, videos in ids.items()} == {
        "train": corpus.train,
        "val": corpus.val,
        "test": corpus.test,
    }
    everything = [video for videos in ids.values() for video in videos]
    assert len(set(everything)) == len(everything)


def test_captions_table_has_eight_one_and_five_captions_a_video():
    table = corpora.captions_table(small(corpora.SCENES))
    false = table["split"].str.startswith("twin_")
    assert false.any()
    assert (table.loc[table.loc[false, "of"], "split"] == "test").all()
    table = table[~false]
    counts = table.groupby(["split", "video"]).caption.agg(["size", "nunique"])
    assert (counts["size"] == counts["nunique"]).all()
    assert counts.groupby("split")["size"].unique().map(list).to_dict() == {
        "test": [1], "test_multi": [5], "train": [8], "val": [1]
    }  # fmt: skip


@BOTH
def test_data_holds_what_the_tables_say(corpus):
    folder = DATA / corpus.name
    if not folder.exists():
        pytest.skip("data/ is absent; `dvc pull` or `make bundled-inputs` brings it")
    written = pd.read_csv(folder / "captions.csv", dtype={"of": "Int64"})
    pd.testing.assert_frame_equal(written, corpora.captions_table(corpus))
    ids = {video for videos in corpora.video_ids(corpus).values() for video in videos}
    assert {path.stem for path in (folder / "videos").iterdir()} == ids
    assert set(pd.read_csv(folder / "events.csv").video) == ids


def test_data_stays_small():
    if not DATA.exists():
        pytest.skip("data/ is absent; `dvc pull` or `make bundled-inputs` brings it")
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= 46e6
