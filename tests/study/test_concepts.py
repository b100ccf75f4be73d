"""The study of concepts on small models: every number agrees with its own definition, every figure names its corpus."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from glscl.encoding import evaluate
from glscl.evaluation import concepts
from glscl.files import write_json
from glscl.model import GLSCL
from glscl.study.concepts import STATISTICS, ConceptStudy, train_freed
from glscl.study.losses import FREED
from glscl.training.trainer import TrainSettings

SEEDS = [3, 5]


SIZES = {"num_queries": 4, "decoder_layers": 1, "temporal_layers": 1, "frames": 4, "words": 24}


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A folder with untrained models of two seeds, kept as `train_seeds` keeps trained ones."""
    folder = tmp_path_factory.mktemp("glscl")
    for seed in SEEDS:
        torch.manual_seed(seed)
        GLSCL.from_clip(corpus["clip"], **SIZES).save_pretrained(folder / f"seed-{seed}")
    settings = TrainSettings(1, 32, 1e-3, 1e-7, 0.2, 0.1, 1.0, "frozen")
    write_json(folder / "settings.json", {"model": SIZES, "train": asdict(settings)})
    return folder


@pytest.fixture(scope="module")
def study(corpus, trained):
    torch.manual_seed(9)
    freed = GLSCL.from_clip(corpus["clip"], **SIZES, dropout=0.0)
    return ConceptStudy(corpus["prepared"], trained, SEEDS, freed)


def test_statistics_are_those_of_each_seed(study):
    assert study.statistics.index.tolist() == SEEDS
    texts, videos = study.embeddings[1]
    expected = concepts.diversity(texts.concepts, videos.concepts, study.test.video_of_text)
    assert study.statistics.loc[5, list(expected)].to_dict() == expected
    weights = concepts.word_attention(study.models[1], study.test)
    mask = study.test.text_batch(torch.arange(len(study.test)))["word_mask"]
    assert study.statistics.loc[5, "attention_on_padding"] == concepts.padding_share(weights, mask)
    assert (study.statistics["attention_on_absent_frames"] == 0).all()  # all clips have four frames
    assert study.statistics["frame_weight_entropy"].between(0, 1).all()
    r1 = 100 * (evaluate(study.models[1], study.test)["t2v"]["rank"] < 1).mean()
    assert study.statistics.loc[5, "r1"] == pytest.approx(r1)


def test_the_freed_model_stands_beside_the_seeds_and_never_among_them(study):
    texts, videos = study.embeddings[2]
    expected = concepts.diversity(texts.concepts, videos.concepts, study.test.video_of_text)
    assert study.every.loc[FREED, list(expected)].to_dict() == expected
    assert study.summary()["freed"]["rank_video"] == expected["rank_video"]
    assert study.summary()["mean"]["rank_video"] == pytest.approx(study.every["rank_video"][:2].mean())


def test_the_freed_model_is_trained_like_the_others_and_not_kept(corpus, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glscl.training.runs.hash_of", lambda _: "the same code all the time")
    model = train_freed(corpus["prepared"], trained, 3)
    settings = model.config
    assert (settings.dropout, settings.diversity_weight, settings.num_queries) == (0, 100, 4)
    assert settings.moment_weight == settings.consistency_weight == 0
    assert not list((tmp_path / "work/.unfinished/concepts").glob("*/3"))


def test_the_summary_can_be_written_and_answers_briefly(study, tmp_path):
    write_json(tmp_path / "concepts.json", study.summary())
    found = json.loads((tmp_path / "concepts.json").read_text())
    assert set(found["seeds"]) == {"3", "5"}
    assert found["mean"]["matched"] == pytest.approx(study.statistics["matched"].mean(), rel=1e-5)
    assert found["target"] == {"matched_released": 0.75 * 4 / 32, "matched_described": 0.75, "within_at_most": 0.9}
    assert (found["texts"], found["videos"], found["concepts"], found["batch_size"]) == (12, 12, 4, 32)
    assert list(found["favourite_words"]) == ["1", "2", "3", "4"]
    assert 0 < found["padding_share_of_positions"] < 1
    for sentence in (found["answer"], *found["details"]):
        assert len(sentence.split()) <= 25
        assert sentence.endswith(".")


def test_tables_have_a_row_per_statistic_concept_and_seed(study):
    table = study.statistics_table()
    assert table["statistic"].tolist() == list(STATISTICS.values())
    low, high = study.statistics["matched"].agg(["min", "max"])
    assert table["released"][2].endswith(f"[{low:.3f}, {high:.3f}]")
    assert table["target of the losses, or else"][2] == "released 0.094, described 0.75"
    words = study.word_table()
    assert words["concept"].tolist() == [1, 2, 3, 4]
    assert words.filter(like="%").sum(axis=1).tolist() == pytest.approx([100] * 4)
    assert (
        table.set_index("statistic").loc["effective rank of a video", "freed"]
        == f"{study.every.loc[FREED, 'rank_video']:.3f}"
    )


def test_the_map_shows_each_pair_once_per_concept_and_is_the_same_again(study):
    shown = study.map(pairs=6, perplexity=5).figure
    points = [trace for trace in shown.data if trace.customdata is not None]
    assert [len(trace.x) for trace in points] == [6] * 16
    assert len(shown.layout.meta["media"]) == 6
    captions = dict(zip(study.test.captions["video"], study.test.captions["text"], strict=True))
    assert shown.layout.meta["captions"] == [captions[video] for video in shown.layout.meta["media"]]
    again = study.map(pairs=6, perplexity=5).figure
    assert shown.to_json() == again.to_json()


def test_figures_hold_the_first_seed_and_the_freed_model(study):
    inside, matched, _, freed = study.cosines().data
    texts, videos = study.embeddings[0]
    assert inside.z[2][2] == pytest.approx(1)
    expected = concepts.mean_cosines(texts.concepts, videos.concepts[study.test.video_of_text])
    assert matched.z[1][3] == pytest.approx(expected[1, 3].item())
    texts, videos = study.embeddings[2]
    expected = concepts.mean_cosines(texts.concepts, videos.concepts[study.test.video_of_text])
    assert freed.z[1][3] == pytest.approx(expected[1, 3].item())
    assert len(study.word_figure(2).data) == 2


def test_without_frames_a_point_shows_its_caption_and_words_are_left_out(study, monkeypatch, tmp_path):
    assert study.has_tokens
    monkeypatch.setattr(study, "corpus", replace(study.corpus, folder=tmp_path))
    assert study.summary()["favourite_words"] == {}
    shown = study.map(pairs=6, perplexity=5)
    points = [trace for trace in shown.data if trace.customdata is not None]
    assert {caption for (caption,) in points[0].customdata} <= set(study.test.captions["text"])
