"""The concepts of trained GLSCL models on a test split: what notebook 05 shows and `concepts.json` keeps."""

import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import torch

from glscl.data.dataset import PreparedCorpus
from glscl.data.frame_store import FrameStore
from glscl.encoding import encode_split
from glscl.evaluation import concepts
from glscl.losses import CONSISTENCY_TARGET, DIVERSITY_MARGIN
from glscl.metrics import per_query
from glscl.model import GLSCL
from glscl.report.figures.common import MediaFigure, film_strip
from glscl.report.figures.concepts import attention_on_captions, concept_map, heat_maps
from glscl.scoring import similarity_matrix, take
from glscl.study.losses import CAUSES, FREED
from glscl.training.runs import UNFINISHED, load_run, train_seeds
from glscl.training.trainer import TrainSettings

STATISTICS = {
    "within_text": "cosine within a text",
    "within_video": "cosine within a video",
    "matched": "cosine, same concept, own video",
    "wrong_pair": "cosine, same concept, wrong video",
    "different": "cosine, other concept, own video",
    "rank_text": "effective rank of a text",
    "rank_video": "effective rank of a video",
    "across_text": "cosine between texts, same concept",
    "across_video": "cosine between videos, same concept",
    "dead_text": "share of dead text concepts",
    "dead_video": "share of dead video concepts",
    "attention_on_padding": "attention on padded words, share",
    "attention_on_absent_frames": "attention on absent frames, share",
    "frame_weight_entropy": "entropy of frame weights, normalised",
}
FRAMES_SHOWN = 8  # of a clip, beside the map


def train_freed(corpus: PreparedCorpus, trained: Path, seed: int) -> GLSCL:
    """GLSCL trained as those in the folder `trained`, without what lets concepts collapse, `CAUSES`; it is not kept."""
    settings = json.loads((trained / "settings.json").read_text())
    model = settings["model"] | {name: value for changed in CAUSES.values() for name, value in changed.items()}
    folder = UNFINISHED / "concepts" / trained.name / str(seed)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # a line per epoch would bury the page
        train_seeds("glscl", model, corpus, TrainSettings(**settings["train"]), [seed], folder)
    found = load_run(folder / f"seed-{seed}")
    shutil.rmtree(folder)
    return found


class ConceptStudy:
    """GLSCL models of several seeds and their embeddings of a test split, and one that is freed of `CAUSES`.

    Figures show the first seed. corpus: prepared as for the training. trained: the folder that
    `glscl.training.runs.train_seeds` wrote. freed: as `train_freed` gives it, of the first seed.
    """

    def __init__(self, corpus: PreparedCorpus, trained: Path, seeds: list[int], freed: GLSCL):
        self.corpus, self.seeds, self.test = corpus, seeds, corpus.split("test")
        self.models = [*(load_run(trained / f"seed-{seed}") for seed in seeds), freed]
        self.embeddings = [encode_split(model, self.test) for model in self.models]
        self.config = self.models[0].config
        self.numbers = list(range(1, self.config.num_queries + 1))
        self.batch_size = json.loads((trained / "settings.json").read_text())["train"]["batch_size"]

    @cached_property
    def every(self) -> pd.DataFrame:
        """`glscl.evaluation.concepts.diversity`, attention on padding, frame weights and R@1, a row per model.

        Rows are the seeds and `FREED`. r1: text to video on the test split, percent.
        """
        table = pd.DataFrame(
            [concepts.diversity(t.concepts, v.concepts, self.test.video_of_text) for t, v in self.embeddings],
            [*self.seeds, FREED],
        )
        mask = self._word_mask
        table["attention_on_padding"] = [concepts.padding_share(weights, mask) for weights in self._on_words]
        table["attention_on_absent_frames"] = [
            concepts.padding_share(concepts.frame_attention(model, videos), videos.mask)
            for model, (_, videos) in zip(self.models, self.embeddings, strict=True)
        ]
        table["frame_weight_entropy"] = [
            self._entropy(model, *both) for model, both in zip(self.models, self.embeddings, strict=True)
        ]
        table["r1"] = [self._r1(model, *both) for model, both in zip(self.models, self.embeddings, strict=True)]
        return table

    @property
    def statistics(self) -> pd.DataFrame:
        """The rows of `every` that are seeds."""
        return self.every.loc[self.seeds]

    @property
    def target(self) -> dict[str, float]:
        """Cosines that the losses aim at: of matching concepts in either variant, and the limit within an item."""
        return {
            "matched_released": CONSISTENCY_TARGET * self.config.num_queries / self.batch_size,
            "matched_described": CONSISTENCY_TARGET,
            "within_at_most": 1 - DIVERSITY_MARGIN,
        }

    def statistics_table(self) -> pd.DataFrame:
        """`every` for a reader: mean over seeds with the lowest and the highest, the freed model, what to compare with.

        That is the target of the losses, or what equal weights would give.
        """
        target, spread, positions = self.target, self.statistics.agg(["mean", "min", "max"]), self.padding_positions
        beside = {
            "within_text": f"described: at most {target['within_at_most']:.1f}",
            "within_video": f"at most {target['within_at_most']:.1f}",
            "matched": f"released {target['matched_released']:.3f}, described {target['matched_described']}",
            "attention_on_padding": f"equal weights: {positions['texts']:.3f}",
            "attention_on_absent_frames": f"equal weights: {positions['videos']:.3f}",
            "frame_weight_entropy": "equal weights: 1",
        }
        rows = [
            (
                words,
                "{:.3f} [{:.3f}, {:.3f}]".format(*spread[name]),
                f"{self.every.loc[FREED, name]:.3f}",
                beside.get(name),
            )
            for name, words in STATISTICS.items()
        ]
        return pd.DataFrame(rows, columns=["statistic", self.config.variant, "freed", "target of the losses, or else"])

    def map(self, pairs: int, perplexity: float) -> MediaFigure | go.Figure:
        """t-SNE maps of the concepts of so many texts and their videos, at most, of the first seed and the freed model.

        A point shows its clip, where the corpus has frames, else its caption.
        """
        rows = self.test.captions.drop_duplicates("video").index.to_numpy()
        rows = rows[concepts.spread(len(rows), pairs)]
        panels = {}
        for title, (texts, videos) in self._compared.items():
            points = torch.cat([texts.concepts[rows], videos.concepts[self.test.video_of_text[rows]]]).flatten(0, 1)
            positions = concepts.project(points, perplexity).reshape(2, len(rows), len(self.numbers), 2)
            panels[title] = {"text": positions[0], "video": positions[1]}
        shown, media = self.test.captions.loc[rows], {}
        if self.has_tokens:
            store = FrameStore(self.corpus.folder / "frames")
            for video in shown["video"]:
                frames = store.frames(video)
                media[video] = film_strip(frames[concepts.spread(len(frames), FRAMES_SHOWN)], width=120)
        return concept_map(panels, shown["video"].tolist(), media, shown["text"].tolist())

    def cosines(self) -> go.Figure:
        """Mean cosines of every two concepts, within videos and of a text with its own video, of both models."""
        tables = {}
        for title, (texts, videos) in self._compared.items():
            own = videos.concepts[self.test.video_of_text]
            for name, left, right in (
                ("in a video", videos.concepts, videos.concepts),
                ("text, video", texts.concepts, own),
            ):
                cosines = concepts.mean_cosines(left, right).numpy()
                tables[f"{title}: {name}"] = pd.DataFrame(cosines, self.numbers, self.numbers)
        return heat_maps(tables, "concept", "concept", -1, 1, digits=1)

    @property
    def has_tokens(self) -> bool:
        """Whether the word features stand for the tokens of a caption; a corpus without videos has words of its own."""
        return (self.corpus.folder / "frames").exists()

    def word_figure(self, captions: int = 3) -> go.Figure:
        """Attention of each concept on the words of some captions, evenly spread over the test split."""
        return attention_on_captions(self._by_word, concepts.spread(len(self.test), captions).tolist())

    def word_table(self) -> pd.DataFrame:
        """Per concept the shares of its attention by kind of token, in percent, and its favourite words."""
        shares = 100 * concepts.shares_by_kind(self._by_word)
        table = pd.DataFrame({"concept": self.numbers} | {f"{kind}, %": shares[kind].tolist() for kind in shares})
        return table.assign(**{"highest mean attention": [", ".join(words) for words in self.favourite_words]})

    @cached_property
    def favourite_words(self) -> list[list[str]]:
        """Per concept the words with the highest mean attention."""
        return concepts.favourite_words(self._by_word)

    @cached_property
    def padding_positions(self) -> dict[str, float]:
        """Share of all positions that are padding: what equal weights would give it."""
        frames = self.embeddings[0][1].mask
        return {"texts": 1 - self._word_mask.float().mean().item(), "videos": 1 - frames.float().mean().item()}

    def answer(self) -> str:
        """Whether concepts match and differ, in one sentence."""
        mean = self.statistics.mean()
        return (
            f"A text's concept has cosine {mean['matched']:.2f} with its own video's, {mean['wrong_pair']:.2f} with a "
            f"wrong video's; a video's {len(self.numbers)} concepts span {mean['rank_video']:.1f} directions."
        )

    def details(self) -> list[str]:
        """What else the statistics say, one sentence each."""
        mean, freed, first = self.statistics.mean(), self.every.loc[FREED], self.statistics.loc[self.seeds[0]]
        return [
            f"With {FREED}, a video's concepts span {freed['rank_video']:.1f} directions; R@1 is {freed['r1']:.1f} "
            f"instead of {first['r1']:.1f} (seed {self.seeds[0]}).",
            f"Over {len(self.test):,} test texts and {len(self.seeds)} seeds, a text's concept has cosine "
            f"{mean['different']:.2f} with other concepts of its own video.",
            f"The concepts of a text span {mean['rank_text']:.1f} directions (effective rank).",
            f"Padding gets {100 * mean['attention_on_padding']:.0f} % of the attention on texts.",
            f"The frame weights have a normalised entropy of {mean['frame_weight_entropy']:.3f}; 1 is a plain mean of "
            "the frames.",
        ]

    def summary(self) -> dict:
        """The content of `concepts.json`."""
        return {
            "answer": self.answer(),
            "details": self.details(),
            "seeds": self.statistics.to_dict("index"),
            "mean": self.statistics.mean().to_dict(),
            "freed": self.every.loc[FREED].to_dict() | {"setting": FREED, "seed": self.seeds[0]},
            "target": self.target,
            "texts": len(self.test),
            "videos": len(self.test.videos),
            "concepts": len(self.numbers),
            "variant": self.config.variant,
            "batch_size": self.batch_size,
            "padding_share_of_positions": self.padding_positions["texts"],
            "favourite_words": dict(zip(self.numbers, self.favourite_words, strict=True)) if self.has_tokens else {},
        }

    @property
    def _compared(self) -> dict[str, tuple]:
        return {self.config.variant: self.embeddings[0], "freed": self.embeddings[-1]}

    @cached_property
    def _word_mask(self) -> torch.Tensor:
        return self.test.text_batch(torch.arange(len(self.test)))["word_mask"]

    @cached_property
    def _tokens(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.corpus.processor.tokenise(self.test.captions["text"].tolist())

    @cached_property
    def _on_words(self) -> list[torch.Tensor]:
        return [concepts.word_attention(model, self.test) for model in self.models]

    @cached_property
    def _by_word(self) -> pd.DataFrame:
        return concepts.by_word(self._on_words[0], *self._tokens, self.corpus.processor.tokenizer)

    def _entropy(self, model: GLSCL, texts, videos) -> float:
        own = take(videos, self.test.video_of_text)
        weights = concepts.frame_weights(texts.sentence, own, model.config)
        return concepts.normalised_entropy(weights, own.mask).mean().item()

    def _r1(self, model: GLSCL, texts, videos) -> float:
        scores = similarity_matrix(model, texts, videos).numpy()
        return float(100 * (per_query(scores, self.test.video_of_text.numpy())["t2v"]["rank"] < 1).mean())
