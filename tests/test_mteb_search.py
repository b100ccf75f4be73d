"""A local retrieval task run by mteb itself, against the metrics of the study on the same clips."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glscl.data.decoding import decode_frames
from glscl.data.processor import Processor
from glscl.metrics import ranks, retrieval_metrics
from glscl.model import GLSCL
from glscl.retriever import Retriever
from glscl.scoring import similarity_matrix

mteb = pytest.importorskip("mteb", reason="mteb is not installed; run `pip install glscl[mteb]`")


@pytest.fixture(scope="module")
def clips(bundled):
    """Twelve test clips of `scenes`, each with its first caption: text, path."""
    table = pd.read_csv(bundled / "scenes/captions.csv").query("split == 'test'").drop_duplicates("video")[:12]
    paths = [str(bundled / "scenes/videos" / f"{video}.mp4") for video in table["video"]]
    return pd.DataFrame({"text": table["caption"].tolist(), "path": paths})


@pytest.fixture(scope="module")
def retriever(bundled):
    """retriever(method) -> one with 4 frames and 24 words; the head of GLSCL is random."""
    clip = bundled / "tiny-clip"

    def make(method):
        if method == "mean_pooling":
            return Retriever.from_clip(clip, frames=4, words=24)
        torch.manual_seed(0)
        return Retriever(
            GLSCL.from_clip(clip, frames=4, words=24, temporal_layers=1), Processor.from_pretrained(clip, 24)
        )

    return make


def task_of(clips, category):
    """The clips as a task of mteb: every second video as a path, the others as bytes."""
    from datasets import Dataset, Video
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Scenes(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Scenes{category.upper()}",
            description="Clips of the study.",
            dataset={"path": "local", "revision": "1"},
            type="Any2AnyRetrieval",
            category=category,
            modalities=["text", "video"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, **_):
            ids = [f"item{row}" for row in range(len(clips))]
            stored = [
                {"path": path, "bytes": None} if row % 2 else {"path": None, "bytes": Path(path).read_bytes()}
                for row, path in enumerate(clips["path"])
            ]
            texts = Dataset.from_dict({"id": ids, "text": clips["text"].tolist()})
            videos = Dataset.from_dict({"id": ids, "video": stored}).cast_column("video", Video())
            queries, corpus = (texts, videos) if category.startswith("t") else (videos, texts)
            relevant = {item: {item: 1} for item in ids}
            parts = {"queries": queries, "corpus": corpus, "relevant_docs": relevant, "top_ranked": None}
            self.dataset, self.data_loaded = {"default": {"test": parts}}, True

    return Scenes()


@pytest.mark.parametrize("method", ["mean_pooling", "glscl"])
def test_mteb_finds_the_metrics_of_the_study(method, retriever, clips, tmp_path, monkeypatch):
    from glscl.mteb_search import MTEBSearch

    model, own = MTEBSearch(retriever(method)), retriever(method)
    scores = similarity_matrix(
        own.model, own.embed_texts(clips["text"].tolist()), own.embed_videos(clips["path"].tolist())
    )
    target, expected = np.arange(len(clips)), retrieval_metrics(scores, np.arange(len(clips)))
    decoded = []
    monkeypatch.setattr(
        "glscl.retriever.decode_frames", lambda path, *size: decoded.append(path) or decode_frames(path, *size)
    )
    for category, matrix in (("t2v", scores), ("v2t", scores.T)):
        found = mteb.evaluate(
            model, task_of(clips, category), cache=mteb.ResultCache(tmp_path), prediction_folder=tmp_path,
            encode_kwargs={"batch_size": 5}, show_progress_bar=False, co2_tracker=False,
        ).task_results[0].scores["test"][0]  # fmt: skip
        for k in (1, 5, 10):
            assert found[f"recall_at_{k}"] == pytest.approx(expected[category][f"R@{k}"] / 100, abs=1e-5)
        rank = ranks(matrix, target)
        assert found["ndcg_at_10"] == pytest.approx(np.mean((rank < 10) / np.log2(rank + 2)), abs=1e-5)
        told = json.loads((tmp_path / f"Scenes{category.upper()}_predictions.json").read_text())["default"]["test"]
        predicted = [[told[f"item{row}"][f"item{column}"] for column in target] for row in target]
        np.testing.assert_allclose(predicted, matrix, atol=1e-5)
    assert len(decoded) == 2 * len(clips)
    assert list(tmp_path.rglob(f"{own.fingerprint()}/ScenesT2V.json"))


def test_a_query_is_compared_with_its_candidates_alone(retriever, clips):
    from glscl.mteb_search import MTEBSearch

    model, task = MTEBSearch(retriever("mean_pooling")), task_of(clips, "t2v")
    task.load_data()
    data = task.dataset["default"]["test"]
    model.index(data["corpus"], task_metadata=task.metadata, encode_kwargs={})
    given = {"task_metadata": task.metadata, "encode_kwargs": {}}
    free = model.search(data["queries"], top_k=12, **given)
    two = model.search(data["queries"], top_k=2, **given)
    bound = model.search(data["queries"], top_k=2, top_ranked={"item3": ["item7", "item1", "item4"]}, **given)
    assert list(two["item3"].items()) == sorted(free["item3"].items(), key=lambda hit: -hit[1])[:2]
    among = {item: free["item3"][item] for item in ("item7", "item1", "item4")}
    assert list(bound["item3"].items()) == sorted(among.items(), key=lambda hit: -hit[1])[:2]
    assert bound["item0"] == {}


def test_tasks_without_texts_on_one_side_and_videos_on_the_other_are_refused(retriever, clips):
    from glscl.mteb_search import MTEBSearch

    with pytest.raises(ValueError, match="got task ScenesV2V of category v2v; choose one of category t2v or v2t"):
        mteb.evaluate(MTEBSearch(retriever("mean_pooling")), task_of(clips, "v2v"), cache=None, co2_tracker=False)
