"""The study of concepts on small models: every number agrees with its own definition, every figure names its corpus."""

import json

import pandas as pd
import pytest
import torch

from glscl.evaluation import concepts
from glscl.files import write_json
from glscl.model import GLSCL
from glscl.study.concepts import STATISTICS, ConceptStudy

SEEDS = [3, 5]


@pytest.fixture(scope="module")
def study(corpus, tmp_path_factory):
    """Untrained models of two seeds, kept as `train_seeds` keeps trained ones."""
    folder = tmp_path_factory.mktemp("glscl")
    for seed in SEEDS:
        torch.manual_seed(seed)
        sizes = {"num_queries": 4, "decoder_layers": 1, "temporal_layers": 1, "frames": 4, "words": 24}
        GLSCL.from_clip(corpus["clip"], **sizes).save_pretrained(folder / f"seed-{seed}")
    write_json(folder / "settings.json", {"train": {"batch_size": 32}})
    return ConceptStudy(corpus["prepared"], folder, SEEDS)


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


def test_the_summary_can_be_written_and_answers_briefly(study, tmp_path):
    write_json(tmp_path / "concepts.json", study.summary(None))
    found = json.loads((tmp_path / "concepts.json").read_text())
    assert set(found["seeds"]) == {"3", "5"}
    assert found["mean"]["matched"] == pytest.approx(study.statistics["matched"].mean(), rel=1e-5)
    assert found["target"] == {"matched_released": 0.75 * 4 / 32, "matched_described": 0.75, "within_at_most": 0.9}
    assert (found["texts"], found["videos"], found["concepts"], found["batch_size"]) == (12, 12, 4, 32)
    assert list(found["favourite_words"]) == ["1", "2", "3", "4"]
    assert 0 < found["padding_share_of_positions"] < 1
    assert found["factors_r2"] == {}
    for sentence in (found["answer"], *found["details"]):
        assert len(sentence.split()) <= 25
        assert sentence.endswith(".")


def test_tables_have_a_row_per_statistic_concept_and_seed(study):
    table = study.statistics_table()
    assert table["statistic"].tolist() == list(STATISTICS.values())
    low, high = study.statistics["matched"].agg(["min", "max"])
    assert table["measured"][2].endswith(f"[{low:.3f}, {high:.3f}]")
    assert table["target of the losses"][2] == "released 0.094, described 0.75"
    words = study.word_table()
    assert words["concept"].tolist() == [1, 2, 3, 4]
    assert words.filter(like="%").sum(axis=1).tolist() == pytest.approx([100] * 4)
    assert study.entropy_table()["seed"].tolist() == SEEDS
    assert study.padding_table().columns.tolist() == ["of", "positions, %", "seed 3, %", "seed 5, %"]


def test_the_map_shows_each_pair_once_per_concept_and_is_the_same_again(study):
    shown = study.map(pairs=6, perplexity=5).figure
    points = [trace for trace in shown.data if trace.customdata is not None]
    assert [len(trace.x) for trace in points] == [6] * 8
    assert len(shown.layout.meta["media"]) == 6
    captions = dict(zip(study.test.captions["video"], study.test.captions["text"], strict=True))
    assert shown.layout.meta["captions"] == [captions[video] for video in shown.layout.meta["media"]]
    again = study.map(pairs=6, perplexity=5).figure
    assert shown.to_json() == again.to_json()


def test_figures_hold_the_first_seed(study):
    left, middle, right = study.cosines().data
    texts, videos = study.embeddings[0]
    assert left.z[0][0] == pytest.approx(1)
    assert middle.z[2][2] == pytest.approx(1)
    expected = concepts.mean_cosines(texts.concepts, videos.concepts[study.test.video_of_text])
    assert right.z[1][3] == pytest.approx(expected[1, 3].item())
    (frames,) = study.frame_figure().data
    assert frames.z.shape == (4, 4)
    assert frames.z.sum(1) == pytest.approx([1] * 4)
    assert len(study.word_figure(2).data) == 2


def test_factors_need_a_record_of_events(study, bundled, tmp_path):
    assert study.factors(tmp_path / "events.csv") is None
    table = study.factors(bundled / "scenes/events.csv")
    assert list(table.index) == ["CLIP", 1, 2, 3, 4]
    assert table.notna().all(axis=None)
    assert (table >= 0).all(axis=None)
    assert isinstance(study.summary(table)["factors_r2"]["CLIP"], dict)
    assert pd.DataFrame(study.summary(table)["factors_r2"]).T.equals(table)
