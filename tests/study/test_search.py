"""What the search page shows: its sentences, its clips, and where a caption's own clip stands."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from glscl.base import load_backbone
from glscl.methods import METHODS
from glscl.retriever import Retriever
from glscl.study import search, search_speed
from glscl.study.search import Found, find, open_retriever, searchable


@pytest.fixture(scope="module")
def texts(corpus):
    test = corpus["captions"].query("split == 'test'")
    return test[["path", "text"]].reset_index(drop=True)


@pytest.fixture(scope="module")
def inputs(bundled):
    return {"clip": str(bundled / "tiny-clip"), "backbone": "frozen", "frames": 4, "words": 24}


@pytest.fixture(scope="module")
def retriever(texts, inputs):
    retriever = open_retriever(Path("none"), [], inputs)
    retriever.index(texts["path"].tolist()[:8])
    return retriever


def test_captions_of_indexed_videos_are_the_examples(retriever, texts):
    found = find(retriever, texts, [], 3)
    assert list(found.hits) == texts["text"].iloc[[0, 3, 7]].tolist()
    assert list(found.own.values()) == list(map(Path, texts["path"].iloc[[0, 3, 7]]))
    ranks = found.ranks()
    for row in ranks.itertuples(index=False):
        hits = found.hits[row[0]]
        assert hits[row[2] - 1][0].name == row[1]
        assert len(hits) == 8
        assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
    among = (ranks["rank"] <= 2).sum()
    assert found.answer(2) == f"Among 8 videos, {among} of 3 captions find their own clip in the best 2."


def test_typed_sentences_replace_the_examples_and_are_asked_once(retriever, texts):
    known = texts["text"][1]
    found = find(retriever, texts, ["a red circle", known, "a red circle"], 3)
    assert list(found.hits) == ["a red circle", known]
    assert list(found.own) == [known]
    clips = found.clips(2)
    assert [len(shown) for shown in clips.values()] == [2, 2]
    path, caption = clips[known][0]
    assert caption == f"1. {path.name}, {found.hits[known][0][1]:.2f}"
    assert (
        Found({"a red circle": found.hits["a red circle"]}, {}).answer(1) == "8 videos were searched for 1 sentences."
    )


def test_own_videos_need_no_captions_but_sentences(retriever, texts, tmp_path):
    (tmp_path / "videos/trip").mkdir(parents=True)
    for path in texts["path"][:3]:
        shutil.copy(path, tmp_path / "videos/trip")
    videos = searchable("own", {"folder": str(tmp_path)})
    assert [Path(path).parent.name for path in videos["path"]] == ["trip"] * 3
    with pytest.raises(ValueError, match=r"needs sentences, .* `search.queries`"):
        find(retriever, videos, [], 4)
    assert find(retriever, videos, ["a star"], 4).own == {}
    assert searchable("shop", {"reader": "own", "folder": str(tmp_path)}).equals(videos)
    captions = pd.DataFrame({"video": [Path(path).stem for path in videos["path"]], "caption": ["a", "b", "c"]})
    captions.to_csv(tmp_path / "captions.csv", index=False)
    assert sorted(searchable("own", {"folder": str(tmp_path)})["text"]) == ["a", "b", "c"]


def test_a_benchmark_is_searched_on_its_test_split(bundled):
    texts = searchable("scenes", {"folder": str(bundled / "scenes")})
    assert len(texts) == texts["path"].nunique() == 1000


def test_a_trained_model_is_taken_where_it_is_a_method(inputs, retriever, tmp_path):
    retriever.model.save_pretrained(tmp_path)
    retriever.processor.save_pretrained(tmp_path)
    assert isinstance(open_retriever(tmp_path, ["glscl"], inputs), Retriever)
    with pytest.raises(ValueError, match="a CLIP from scratch has random weights"):
        open_retriever(tmp_path, ["x_pool"], inputs | {"backbone": "scratch"})


def test_the_speed_of_glscl_is_measured_and_drawn(retriever, texts, inputs, monkeypatch):
    """On made-up videos of two clips; mean pooling has nothing to measure."""
    monkeypatch.setattr(search, "MADE_UP", 300)
    monkeypatch.setattr(search, "MIXED", 2)
    monkeypatch.setattr(search, "ASKED", 2)
    assert search.speed(retriever, ["a star"]) == {}
    clip = load_backbone(inputs["clip"], "frozen", retriever.processor)
    model = METHODS["glscl"].from_clip(clip, frames=4, words=24, temporal_layers=1, num_queries=2, decoder_layers=1)
    own = Retriever(model.eval(), retriever.processor)
    own.index(texts["path"].tolist()[:3])
    found = search.speed(own, ["a red star", "a blue moon", "a tree"])
    assert (found["videos"], found["queries"]) == (300, 2)
    line, *stars = search.speed_figure(found).data
    assert list(line.text) == list(map(str, search_speed.CANDIDATES))
    assert line.y[-1] == 100
    assert [star.name for star in stars] == ["all videos, by codes", "all videos, float32"]
    assert stars[0].x[0] == pytest.approx(1000 * found["cpu_seconds"]["codes"])


def test_a_folder_that_is_not_there_is_told_as_such(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # as `dvc exp run --temp` works in a copy without what git ignores
    with pytest.raises(FileNotFoundError, match=r"'corpora/own' was looked for in .*, .* an absolute path"):
        searchable("own", {"folder": "corpora/own"})
