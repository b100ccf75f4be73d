"""Trained models on the queries of a test split: the best videos of each, and where GLSCL looks in a pair."""

import html
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor

from glscl.bundled.facets import SPOKEN
from glscl.bundled.grammar import read_told
from glscl.data.corpora import read_corpus
from glscl.data.dataset import PreparedCorpus, Split
from glscl.data.frame_store import FrameStore
from glscl.encoding import encode_split
from glscl.evaluation.concepts import END, START, by_word, frame_attention, frame_weights, word_attention
from glscl.model import GLSCL
from glscl.report.clips import clips_html
from glscl.report.figures.common import PALETTE, TEMPLATE, film_strip
from glscl.report.figures.concepts import heat_maps
from glscl.report.tables import results_html
from glscl.retriever import Retriever
from glscl.scoring import similarity_matrix, take
from glscl.study.explore import Chosen, queries, read_ranks
from glscl.training.runs import load_run

MEGABYTES = 20  # of clips in one gallery, at most
NO_CLIPS = "This corpus is made of features and has no clips: each video is shown by its caption."
NO_SENTENCES = (
    "This corpus is made of features, and no encoder turns a new sentence into them: searched is the test caption that "
    "shares most words with it, {text!r}."
)


class Searcher:
    """A trained model and its embeddings of a test split."""

    def __init__(self, folder: Path, corpus: PreparedCorpus, test: Split):
        self.model, self.corpus, self.test = load_run(folder), corpus, test
        self.texts, self.videos = encode_split(self.model, test)

    def of_sentence(self, sentence: str) -> Tensor:
        """Scores of any sentence with all videos, (videos,)."""
        texts = Retriever(self.model, self.corpus.processor).embed_texts([sentence])
        return similarity_matrix(self.model, texts, self.videos)[0]

    @cached_property
    def on_words(self) -> Tensor:
        """Attention of GLSCL's concepts on the words of every text, (texts, concepts, words)."""
        return word_attention(self.model, self.test)


class Opened:
    """A finished corpus of a profile: its queries and ranks at once, its models when they are asked for."""

    def __init__(self, chosen: Chosen):
        inputs = chosen.inputs
        self.chosen = chosen
        self.corpus = PreparedCorpus.open(chosen.folders.corpus, inputs["clip"], inputs["backbone"], inputs["words"])
        self.queries = queries(self.corpus.captions, chosen.source)
        self.ranks = read_ranks(chosen.folders.work)
        if "best" not in self.ranks:
            raise ValueError(
                f"{chosen.folders.work}/ranks.parquet is of an older version, without the best videos of each query; "
                f"run `dvc repro {chosen.stage}`."
            )
        self.searcher = lru_cache(maxsize=4)(self._searcher)

    def _searcher(self, method: str, seed: int) -> Searcher:
        return Searcher(self.chosen.folders.work / f"train/{method}/seed-{seed}", self.corpus, self.test)

    @cached_property
    def test(self) -> Split:
        """The test split."""
        return self.corpus.split("test")

    @cached_property
    def paths(self) -> dict[str, str]:
        """The file of each test video; empty for a corpus of features."""
        if self.chosen.world == "features":
            return {}
        table = read_corpus(self.chosen.dataset, **self.chosen.corpus)
        return table[table["split"] == "test"].set_index("video")["path"].to_dict()

    def gallery(self, method: str, seed: int, query: int | str, best: int) -> str:
        """`gallery_html` of the best videos of a method for the test text in a row, or for a sentence.

        best: at most `glscl.metrics.DEPTH`, as many as the evaluate stage keeps.
        """
        if isinstance(query, str):
            scores, rows = self.searcher(method, seed).of_sentence(query).topk(min(best, len(self.test.videos)))
            found = best_videos([self.test.videos[row] for row in rows], scores.tolist())
        else:
            kept = self.of_query(method, seed, query)
            found = best_videos(kept["best"][:best], kept["scores"][:best], kept["video"])
        captions = self.queries.drop_duplicates("video").set_index("video")["text"]
        return gallery_html(method, found, self.paths, captions)

    def of_query(self, method: str, seed: int, row: int) -> pd.Series:
        """What the evaluate stage found for the test text in a row."""
        ranks = self.ranks
        run = (ranks["method"] == method) & (ranks["seed"] == seed)
        return ranks[run & (ranks["split"] == "test") & (ranks["direction"] == "t2v")].iloc[row]

    def search(self, sentence: str, methods: list[str], seed: int, best: int) -> tuple[list[str], str]:
        """A gallery of each method for a sentence, and a remark; see `NO_SENTENCES`."""
        if self.chosen.world == "videos":
            return [self.gallery(method, seed, sentence, best) for method in methods], ""
        row = nearest_text(sentence, self.queries["text"])
        remark = f"{NO_SENTENCES.format(text=self.queries['text'][row])} {NO_CLIPS}"
        return [self.gallery(method, seed, row, best) for method in methods], remark

    def looks(self, seed: int, row: int) -> "Looks":
        """Where the GLSCL of a seed looks in the test text of a row and its own video."""
        searcher, video = self.searcher("glscl", seed), int(self.test.video_of_text[row])
        weights, text = searcher.on_words[[row]], self.queries["text"][row]
        if self.chosen.world == "features":
            names = spoken_words(self.queries["told"][row], self.chosen.corpus)
            on_words = pd.DataFrame(weights[0].numpy(), columns=names)
        else:
            words = by_word(weights, *self.corpus.processor.tokenise([text]), self.corpus.processor.tokenizer)
            on_words = words.drop(columns="text").set_index("word").T
        return looks_of(searcher, row, video, on_words)

    def strip(self, video: str) -> str:
        """The frames of a test video as HTML; empty for a corpus of features."""
        if self.chosen.world == "features":
            return ""
        frames = FrameStore(self.corpus.folder / "frames").frames(video)
        source = film_strip(frames, columns=len(frames), width=90)
        return f'<img src="{source}" alt="frames of {html.escape(video)}">'


def best_videos(videos: list[str], scores: list[float], own: str = "") -> pd.DataFrame:
    """Videos, best first, with their scores: columns place (from 1), video, score, right (is it `own`?)."""
    right = [video == own for video in videos]
    return pd.DataFrame({"place": range(1, len(videos) + 1), "video": videos, "score": scores, "right": right})


def gallery_html(title: str, found: pd.DataFrame, paths: dict[str, str], captions: pd.Series) -> str:
    """The videos of `best_videos` under a title: clips that play, or a table of captions where `paths` is empty.

    captions: a text of each video, by its name. All text is escaped. Raises VideoError at a file that cannot be read.
    """
    if paths:
        clips = [(paths[row.video], _about(row)) for row in found.itertuples()]
        return clips_html({title: clips}, MEGABYTES)
    cells = {"place": found["place"], "video": found["video"], "score": [f"{score:.2f}" for score in found["score"]]}
    shown = pd.DataFrame(cells | {"its caption": [captions[video] for video in found["video"]]})
    shown["right"] = ["right video" if right else "" for right in found["right"]]
    return f"<h3>{html.escape(title)}</h3>{results_html(shown)}"


def _about(row) -> str:
    return f"{row.place}. {row.video}, {row.score:.2f}" + (", the right video" if row.right else "")


def nearest_text(sentence: str, texts: pd.Series) -> int:
    """Position of the first text that has the largest share of words in common with a sentence (Jaccard's index)."""
    wanted = set(sentence.lower().split())
    shares = [len(wanted & words) / len(wanted | words) for words in (set(text.lower().split()) for text in texts)]
    return int(np.argmax(shares))


def spoken_words(told: str, corpus: dict) -> list[str]:
    """What each word feature of a text of `facets` stands for, as `glscl.bundled.facets.word_features` lays them out.

    told: of the text. corpus: the settings of the corpus, which say how clauses are joined.
    """
    clauses = [[event[factor] for factor in SPOKEN if factor in event] for event in read_told(told)]
    joint = "then" if corpus.get("ordered", True) else "and"
    words = [word for clause in clauses for word in (joint, *clause)]
    return [START, *words[1:], END]


class Looks(NamedTuple):
    """Where GLSCL looks in a text and a video.

    frames: (frames,), weights of the text-conditioned mean over the real frames. on_words, on_frames: attention of the
    local interaction, rows are concepts, columns words and frames; each row adds up to 1.
    """

    frames: np.ndarray
    on_words: pd.DataFrame
    on_frames: pd.DataFrame

    def weights_figure(self) -> go.Figure:
        """The weight of each frame, and the weight that all would have in a plain mean."""
        names, count = list(range(1, len(self.frames) + 1)), len(self.frames)
        figure = go.Figure(go.Bar(x=names, y=self.frames, marker_color=PALETTE[0]))
        figure.add_hline(1 / count, line_dash="dot", annotation_text="plain mean")
        figure.update_xaxes(title="frame", type="category").update_yaxes(title="weight")
        return figure.update_layout(template=TEMPLATE, height=260, margin_t=24)

    def attention_figure(self) -> go.Figure:
        """Attention of the concepts on words and on frames."""
        panels = {"on the words of the text": self.on_words, "on the frames of its video": self.on_frames}
        high = max(panel.to_numpy().max() for panel in panels.values())
        return heat_maps({title: _numbered(panel) for title, panel in panels.items()}, "concept", "", 0, high)


def _numbered(panel: pd.DataFrame) -> pd.DataFrame:
    """The panel with its concepts counted from 1, and numbers that keep equal words apart."""
    columns = [f"{number} {name}" for number, name in enumerate(panel.columns, 1)]
    return pd.DataFrame(panel.to_numpy(), range(1, len(panel) + 1), columns)


def looks_of(searcher: Searcher, row: int, video: int, on_words: pd.DataFrame) -> Looks:
    """The `Looks` of a GLSCL at a test text and a video, both by their position.

    on_words: attention on the words of the text, rows are concepts. Raises ValueError for any other head.
    """
    if not isinstance(searcher.model, GLSCL):
        raise ValueError(f"frame weights and concepts are GLSCL's, got {type(searcher.model).__name__}; choose glscl.")
    one = take(searcher.videos, torch.tensor([video]))
    real = int(one.mask.sum())
    weights = frame_weights(searcher.texts.sentence[[row]], one, searcher.model.config)[0, :real]
    on_frames = frame_attention(searcher.model, one)[0].numpy()
    names = [f"frame {number}" if number <= real else "absent" for number in range(1, on_frames.shape[1] + 1)]
    return Looks(weights.numpy(), on_words, pd.DataFrame(on_frames, columns=names))
