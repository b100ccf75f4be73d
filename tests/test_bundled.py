"""The bundled inputs: captions that agree with their events, reproducible bytes, the oracle, and the files in data/."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glscl.bundled import corpora, drawing
from glscl.bundled.grammar import BACKGROUNDS, FACTORS, MOTIONS, SHAPES, draw_event, read_told, write_told
from glscl.bundled.oracle import oracle_scores

DATA = Path(__file__).parents[1] / "data"
BOTH = pytest.mark.parametrize("corpus", [corpora.SCENES, corpora.STORIES], ids=["scenes", "stories"])


def small(corpus):
    """The same corpus with few videos."""
    return dataclasses.replace(corpus, train=6, val=2, test=4, multi=min(corpus.multi, 3))


def factors(event):
    return {factor: getattr(event, factor) for factor in (*FACTORS, "distractor")}


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
    corpus = small(corpora.STORIES)
    for workers in (1, 2):
        corpora.build(corpus, tmp_path / str(workers), workers)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert len(files) == 14
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file


@BOTH
def test_told_facts_hold_in_the_order_of_time(corpus):
    for number in range(200):
        video = f"{corpus.name}{number:04d}"
        events = [factors(event) for event in corpora.video_events(corpus, video)[0]]
        for text, cell in corpora.video_captions(corpus, video, 2):
            told = read_told(cell)
            assert len(told) in ((1, 2) if corpus is corpora.SCENES else (4, 5)), text
            later = iter(events)
            assert all(any(facts.items() <= event.items() for event in later) for facts in told), (text, cell)


def test_a_caption_says_what_told_says():
    for number in range(200):
        for text, cell in corpora.video_captions(corpora.SCENES, f"scenes{number:04d}", 2):
            told = read_told(cell)
            for factor in ("shape", "motion", "background"):
                for value in {facts[factor] for facts in told if factor in facts}:
                    phrases = [form for phrase in FACTORS[factor][value] for form in phrase.split("/")]
                    assert any(phrase in text for phrase in phrases), (text, factor, value)
            spoken = {value for value, words in BACKGROUNDS.items() if any(word in text for word in words)}
            assert spoken == {facts["background"] for facts in told if "background" in facts}, text


def test_paragraphs_have_three_to_five_sentences_and_fit_the_text_tower():
    for number in range(100):
        [(text, _)] = corpora.video_captions(corpora.STORIES, f"stories{number:04d}", 1)
        assert 3 <= text.count(".") <= 5
        assert len(text.split()) >= 30
        assert len(re.findall(r"\w+|[^\w\s]", text)) <= 60


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
    counts = table.groupby(["split", "video"]).caption.agg(["size", "nunique"])
    assert (counts["size"] == counts["nunique"]).all()
    assert counts.groupby("split")["size"].unique().map(list).to_dict() == {
        "test": [1], "test_multi": [5], "train": [8], "val": [1]
    }  # fmt: skip


def test_every_pair_of_shapes_and_of_visible_motions_looks_different():
    rng = np.random.default_rng(0)
    event = dataclasses.replace(draw_event(rng), shape="star", colour="red", background="sand", size="large")
    backdrop = drawing.ground("sand", "scenes", rng)
    shapes = {s: drawing.frame([dataclasses.replace(event, shape=s)], 0.4, "scenes", backdrop) for s in SHAPES}
    motions = {m: drawing.frame([dataclasses.replace(event, motion=m)], 0.4, "scenes", backdrop) for m in MOTIONS}
    for pictures in (shapes, motions):
        assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)


def test_told_survives_writing_and_reading():
    told = [{"shape": "star", "motion": "left"}, {"distractor": "green heart"}]
    assert write_told(told) == "shape=star;motion=left | distractor=green heart"
    assert read_told(write_told(told)) == told


@pytest.mark.parametrize("cell", ["", "star", "shape=star | red", "shape=star;red", "shape==star"])
def test_a_cell_without_facts_is_refused(cell):
    with pytest.raises(ValueError, match="expected facts such as"):
        read_told(cell)


def events_table(*videos):
    """A table of videos from strings such as "red star left sky": colour, shape, motion, background per event."""
    rows = []
    for name, events in enumerate(videos):
        for number, words in enumerate(events):
            colour, shape, motion, background = words.split()
            rows.append((f"v{name}", number, shape, colour, "large", motion, background, "blue ring"))
    return pd.DataFrame(rows, columns=["video", "event", *FACTORS, "distractor"])


def test_oracle_on_a_hand_made_case():
    events = events_table(
        ["red star left sky", "blue ring rise sea", "pink moon fall snow"],
        ["blue ring rise sea", "red star left sky", "pink moon fall snow"],
        ["red ring left sea", "red ring left sea", "red ring left sea"],
    )
    cells = [
        "colour=red;shape=star | colour=blue;motion=rise",  # in this order in the first video alone
        "shape=moon",  # in two videos
        "colour=red | shape=ring | motion=left",
        "colour=green;distractor=blue ring",
    ]
    scores = oracle_scores(pd.DataFrame({"told": cells}), events)
    expected = [[1, 0.5, 0.25], [1, 1, 0], [2 / 3, 0, 1], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(scores, expected)


def test_oracle_does_not_use_one_event_twice():
    events = events_table(["red star left sky", "blue ring rise sea"])
    captions = pd.DataFrame({"told": ["shape=star | shape=star"]})
    assert oracle_scores(captions, events) == 0.5


def test_oracle_gives_every_bundled_text_full_agreement_with_its_video():
    corpus = small(corpora.STORIES)
    table, events = corpora.captions_table(corpus), corpora.events_table(corpus)
    assert (np.diag(oracle_scores(table, events)) == 1).all()


@pytest.mark.parametrize(
    ("cell", "message"), [("taste=sweet", "taste"), ("shape=star | shape=star | shape=star", "at most 2 events")]
)
def test_oracle_refuses_what_it_cannot_judge(cell, message):
    events = events_table(["red star left sky", "blue ring rise sea"])
    with pytest.raises(ValueError, match=message):
        oracle_scores(pd.DataFrame({"told": [cell]}), events)


def test_oracle_refuses_videos_of_different_lengths():
    events = events_table(["red star left sky", "blue ring rise sea"], ["red star left sky"])
    with pytest.raises(ValueError, match=r"same number of events, got \[1, 2\]"):
        oracle_scores(pd.DataFrame({"told": ["shape=star"]}), events)


@BOTH
def test_data_holds_what_the_tables_say(corpus):
    folder = DATA / corpus.name
    if not folder.exists():
        pytest.skip("data/ is absent; `dvc pull` or `make bundled-inputs` brings it")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "captions.csv"), corpora.captions_table(corpus))
    ids = {video for videos in corpora.video_ids(corpus).values() for video in videos}
    assert {path.stem for path in (folder / "videos").iterdir()} == ids
    assert set(pd.read_csv(folder / "events.csv").video) == ids


def test_data_stays_small():
    if not DATA.exists():
        pytest.skip("data/ is absent; `dvc pull` or `make bundled-inputs` brings it")
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= 38e6


@pytest.fixture(scope="module")
def tiny():
    if not (DATA / "tiny-clip").exists():
        pytest.skip("data/tiny-clip is absent; `dvc pull` or `make bundled-inputs` brings it")
    from transformers import AutoTokenizer, CLIPModel

    return CLIPModel.from_pretrained(DATA / "tiny-clip").eval(), AutoTokenizer.from_pretrained(DATA / "tiny-clip")


def test_tiny_clip_finds_held_out_stills_with_vectors_of_length_ten(tiny):
    import torch

    from glscl.bundled import tiny_clip

    model, tokenizer = tiny
    assert sum(parameter.numel() for parameter in model.parameters()) <= 3e6
    assert model.dtype == torch.float32
    stills = [tiny_clip.draw_still(tiny_clip.STILLS + i) for i in range(100)]
    with torch.no_grad():
        images, texts = tiny_clip.embed(model, tokenizer, np.stack([s[0] for s in stills]), [s[1][0] for s in stills])
    for vectors in (images, texts):
        assert 9 < vectors.norm(dim=1).mean() < 11
    images, texts = (torch.nn.functional.normalize(x, dim=1) for x in (images, texts))
    assert ((texts @ images.T).argmax(dim=1) == torch.arange(100)).float().mean() > 0.25


def test_tiny_clip_tokenizer_knows_its_special_tokens(tiny):
    model, tokenizer = tiny
    assert model.config.text_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer("A Red STAR").input_ids == tokenizer("a red star").input_ids
    ids = tokenizer("a red star").input_ids
    assert len(ids) == 5
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["<|startoftext|>", "<|endoftext|>"]
    unseen = tokenizer("zebra 7 \u00e9\u4e2d?").input_ids
    assert unseen.count(tokenizer.eos_token_id) == 1


def test_tiny_clip_preprocessing_is_the_generators(tiny):
    from transformers import CLIPImageProcessorPil

    from glscl.bundled import tiny_clip

    image, *_ = tiny_clip.draw_still(0)
    pixels = CLIPImageProcessorPil.from_pretrained(DATA / "tiny-clip")(image, return_tensors="pt")["pixel_values"][0]
    expected = (image.transpose(2, 0, 1) / 255 - tiny_clip.MEAN[0]) / tiny_clip.STD[0]
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-5)
