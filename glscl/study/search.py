"""Sentences searched for in the test videos of a corpus, or in a folder of videos without captions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from glscl.data.corpora import read_corpus
from glscl.data.video_files import list_videos
from glscl.model import GLSCLHead
from glscl.report.clips import with_places
from glscl.report.figures.search import recall_over_time
from glscl.retriever import Retriever
from glscl.study.search_speed import measure

MADE_UP, MIXED, ASKED = 5000, 100, 10  # videos that are searched, those that they are mixed of, and sentences


def searchable(dataset: str, corpus: dict) -> pd.DataFrame:
    """The captions of the test split, columns `path` and `text`.

    A folder of the reader `own` without captions gives all of its videos, with empty texts. corpus: its `folder`, its
    `reader` where that has another name than the dataset, and the settings of the reader. Raises what
    `glscl.data.corpora.read_corpus` and `glscl.data.video_files.list_videos` raise.
    """
    folder = Path(corpus["folder"])
    if corpus.get("reader", dataset) == "own" and folder.is_dir() and not (folder / "captions.csv").exists():
        return pd.DataFrame({"path": list(map(str, list_videos(folder))), "text": ""})
    captions = read_corpus(dataset, **corpus)
    return captions.loc[captions["split"] == "test", ["path", "text"]].reset_index(drop=True)


def open_retriever(trained: Path, methods: list[str], inputs: dict) -> Retriever:
    """The trained GLSCL in the folder `trained` where `methods` name it, else CLIP as it is.

    inputs: `clip`, `backbone`, `frames` and `words`. Raises ValueError where CLIP has random weights.
    """
    if "glscl" in methods:
        return Retriever.from_pretrained(trained)
    if inputs["backbone"] == "scratch":
        raise ValueError("search needs a trained model, a CLIP from scratch has random weights; train glscl first.")
    return Retriever.from_clip(inputs["clip"], inputs["frames"], inputs["words"])


class Found(NamedTuple):
    """What a search found. hits: for each sentence (path, score) of every indexed video, best first.

    own: the file that each sentence describes, as far as it is a caption of an indexed video.
    """

    hits: dict[str, list[tuple[Path, float]]]
    own: dict[str, Path]

    def clips(self, best: int) -> dict[str, list[tuple[Path, str]]]:
        """The `best` files of each sentence with a caption, as `glscl.report.clips.clips_html` takes them."""
        return {sentence: with_places(hits[:best]) for sentence, hits in self.hits.items()}

    def ranks(self) -> pd.DataFrame:
        """Where the clip of each caption stands: columns sentence, its clip, rank (1 is best)."""
        rows = [(s, path.name, [hit for hit, _ in self.hits[s]].index(path) + 1) for s, path in self.own.items()]
        return pd.DataFrame(rows, columns=["sentence", "its clip", "rank"])

    def results(self, best: int) -> dict:
        """The `best` files of each sentence, by name, with their scores."""
        return {
            sentence: [{"file": path.name, "score": score} for path, score in hits[:best]]
            for sentence, hits in self.hits.items()
        }

    def answer(self, best: int) -> str:
        """How many captions find their clip, in one sentence."""
        videos = len(next(iter(self.hits.values())))
        if not self.own:
            return f"{videos:,} videos were searched for {len(self.hits)} sentences."
        among = int((self.ranks()["rank"] <= best).sum())
        return f"Among {videos:,} videos, {among} of {len(self.own)} captions find their own clip in the best {best}."


def find(retriever: Retriever, texts: pd.DataFrame, queries: list[str], examples: int) -> Found:
    """Search the indexed videos of `retriever` for `queries` or, without any, for `examples` of their captions.

    texts: as `searchable` gives them; the captions are evenly spread over those of the indexed videos. Raises
    ValueError without sentences.
    """
    indexed = texts["path"].isin(set(map(str, retriever.paths)))
    captions = texts[indexed & (texts["text"] != "")]
    spread = np.unique(np.linspace(0, len(captions) - 1, min(examples, len(captions))).astype(int))
    sentences = list(dict.fromkeys(queries or captions["text"].iloc[spread]))
    if not sentences:
        raise ValueError("a search needs sentences, the videos have no captions; put some into `search.queries`.")
    described = captions.drop_duplicates("text").set_index("text")["path"]
    own = {sentence: Path(described[sentence]) for sentence in sentences if sentence in described}
    return Found({sentence: retriever.search(sentence, len(retriever.paths)) for sentence in sentences}, own)


def speed(retriever: Retriever, sentences: list[str]) -> dict:
    """`glscl.study.search_speed.measure` of the first sentences among made-up videos, mixed of the first indexed ones.

    Empty where the model is no GLSCL: a video is then one vector, and candidates miss nothing.
    """
    if not isinstance(retriever.model.head, GLSCLHead):
        return {}
    texts = retriever.embed_texts(sentences[:ASKED])
    return measure(retriever.model.head, texts, retriever.embed_videos(retriever.paths[:MIXED]), MADE_UP)


def speed_figure(measured: dict) -> go.Figure:
    """`recall_over_time` of what `speed` measured, in seconds of processors: other stages may run beside this one."""
    recall = measured["recall_at_10"] | {"codes": 1.0, "float32": 1.0}
    rows = [(way, measured["cpu_seconds"][way], found) for way, found in recall.items()]
    return recall_over_time(pd.DataFrame(rows, columns=["way", "seconds", "recall"]))
