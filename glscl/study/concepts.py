"""The concepts of trained GLSCL models on a test split: what notebook 05 shows and `concepts.json` keeps."""

import json
from functools import cached_property
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import torch

from glscl.bundled.grammar import FACTORS
from glscl.data.dataset import PreparedCorpus
from glscl.data.frame_store import FrameStore
from glscl.encoding import encode_split
from glscl.evaluation import concepts
from glscl.losses import CONSISTENCY_TARGET, DIVERSITY_MARGIN
from glscl.report.figures.common import MediaFigure, film_strip
from glscl.report.figures.concepts import attention_on_captions, concept_map, heat_maps
from glscl.scoring import take
from glscl.training.runs import load_run

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
}
FRAMES_SHOWN = 8  # of a clip, beside the map


class ConceptStudy:
    """GLSCL models of several seeds and their embeddings of a test split. Figures show the first seed.

    corpus: prepared as for the training. trained: the folder that `glscl.training.runs.train_seeds` wrote.
    """

    def __init__(self, corpus: PreparedCorpus, trained: Path, seeds: list[int]):
        self.corpus, self.seeds, self.test = corpus, seeds, corpus.split("test")
        self.models = [load_run(trained / f"seed-{seed}") for seed in seeds]
        self.embeddings = [encode_split(model, self.test) for model in self.models]
        self.config = self.models[0].config
        self.numbers = list(range(1, self.config.num_queries + 1))
        self.batch_size = json.loads((trained / "settings.json").read_text())["train"]["batch_size"]

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """One row per seed: `glscl.evaluation.concepts.diversity`, attention on padding, entropy of frame weights."""
        table = pd.DataFrame(
            [concepts.diversity(t.concepts, v.concepts, self.test.video_of_text) for t, v in self.embeddings],
            self.seeds,
        )
        mask = self._tokens[1]
        table["attention_on_padding"] = [concepts.padding_share(weights, mask) for weights in self._on_words]
        table["attention_on_absent_frames"] = [
            concepts.padding_share(concepts.frame_attention(model, videos), videos.mask)
            for model, (_, videos) in zip(self.models, self.embeddings, strict=True)
        ]
        table["frame_weight_entropy"] = [values.mean().item() for values in self._entropies]
        return table

    @property
    def target(self) -> dict[str, float]:
        """Cosines that the losses aim at: of matching concepts in either variant, and the limit within an item."""
        return {
            "matched_released": CONSISTENCY_TARGET * self.config.num_queries / self.batch_size,
            "matched_described": CONSISTENCY_TARGET,
            "within_at_most": 1 - DIVERSITY_MARGIN,
        }

    def statistics_table(self) -> pd.DataFrame:
        """`statistics` for a reader: mean over seeds with the lowest and the highest, and the target of the losses."""
        target, spread = self.target, self.statistics.agg(["mean", "min", "max"])
        targets = {
            "within_text": f"described: at most {target['within_at_most']:.1f}",
            "within_video": f"at most {target['within_at_most']:.1f}",
            "matched": f"released {target['matched_released']:.3f}, described {target['matched_described']}",
        }
        rows = [
            (words, "{:.3f} [{:.3f}, {:.3f}]".format(*spread[name]), targets.get(name))
            for name, words in STATISTICS.items()
        ]
        return pd.DataFrame(rows, columns=["statistic", "measured", "target of the losses"])

    def map(self, pairs: int, perplexity: float) -> MediaFigure:
        """The t-SNE map of the concepts of so many texts and their videos, at most; a point shows its clip."""
        texts, videos = self.embeddings[0]
        rows = self.test.captions.drop_duplicates("video").index.to_numpy()
        rows = rows[concepts.spread(len(rows), pairs)]
        points = torch.cat([texts.concepts[rows], videos.concepts[self.test.video_of_text[rows]]]).flatten(0, 1)
        positions = concepts.project(points, perplexity).reshape(2, len(rows), len(self.numbers), 2)
        store, shown = FrameStore(self.corpus.folder / "frames"), self.test.captions.loc[rows]
        media = {}
        for video in shown["video"]:
            frames = store.frames(video)
            media[video] = film_strip(frames[concepts.spread(len(frames), FRAMES_SHOWN)], width=120)
        return concept_map({"text": positions[0], "video": positions[1]}, list(media), media, shown["text"].tolist())

    def cosines(self) -> go.Figure:
        """Mean cosines of every two concepts: within texts, within videos, and of a text with its own video."""
        texts, videos = self.embeddings[0]
        own = videos.concepts[self.test.video_of_text]
        sides = {
            "text, text": (texts.concepts, texts.concepts),
            "video, video": (videos.concepts, videos.concepts),
            "text, video": (texts.concepts, own),
        }
        tables = {
            name: pd.DataFrame(concepts.mean_cosines(*both).numpy(), self.numbers, self.numbers)
            for name, both in sides.items()
        }
        return heat_maps(tables, "concept", "concept", -1, 1)

    def frame_figure(self) -> go.Figure:
        """Attention of each concept on each frame, mean over the test videos."""
        weights = concepts.frame_attention(self.models[0], self.embeddings[0][1]).mean(0)
        table = pd.DataFrame(weights.numpy(), self.numbers, range(1, weights.shape[1] + 1))
        return heat_maps({"": table}, "concept", "frame", 0, table.max(axis=None), digits=3)

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
        return {"texts": 1 - self._tokens[1].float().mean().item(), "videos": 1 - frames.float().mean().item()}

    def padding_table(self) -> pd.DataFrame:
        """Share of attention on padding, and the share of positions that are padding, in percent, per seed."""
        table = pd.DataFrame({"of": self.padding_positions.keys()})
        table["positions, %"] = [f"{100 * share:.1f}" for share in self.padding_positions.values()]
        for seed, row in self.statistics.iterrows():
            both = row["attention_on_padding"], row["attention_on_absent_frames"]
            table[f"seed {seed}, %"] = [f"{100 * share:.1f}" for share in both]
        return table

    def entropy_table(self) -> pd.DataFrame:
        """Normalised entropy of the frame weights of the true pairs: quantiles and mean, per seed."""
        quantiles = [values.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist() for values in self._entropies]
        table = pd.DataFrame(quantiles, columns=["5 %", "median", "95 %"])
        table = table.assign(mean=[values.mean().item() for values in self._entropies]).map("{:.3f}".format)
        table.insert(0, "seed", self.seeds)
        return table

    def factors(self, events: Path) -> pd.DataFrame | None:
        """R^2 of each factor (columns) from the mean of CLIP's frames and from each concept (rows), mean over seeds.

        events: table of the events of each clip, with a column `video` and one per factor; None where it is absent.
        Values that all test videos have, or none has, are left out.
        """
        if not events.is_file():
            return None
        table, train = pd.read_csv(events), self.corpus.split("train")
        learn, check = (concepts.presence(table, split.videos, list(FACTORS)) for split in (train, self.test))
        varied = [value for value in check if check[value].nunique() > 1]
        tables = []
        for model in self.models:
            seen, new = concepts.video_vectors(model, train), concepts.video_vectors(model, self.test)
            vectors = [(seen.frames, new.frames), *zip(seen.concepts.unbind(1), new.concepts.unbind(1), strict=True)]
            probes = [concepts.probe(*both, learn[varied], check[varied]) for both in vectors]
            tables.append(pd.DataFrame(probes, ["CLIP", *self.numbers]))
        return sum(tables) / len(tables)

    def answer(self) -> str:
        """Whether concepts match and differ, in one sentence."""
        mean = self.statistics.mean()
        return (
            f"A text's concept has cosine {mean['matched']:.2f} with its own video's, {mean['wrong_pair']:.2f} with a "
            f"wrong video's; a video's {len(self.numbers)} concepts span {mean['rank_video']:.1f} directions."
        )

    def details(self) -> list[str]:
        """What else the statistics say, one sentence each."""
        mean = self.statistics.mean()
        return [
            f"Over {len(self.test):,} test texts and {len(self.seeds)} seeds, a text's concept has cosine "
            f"{mean['different']:.2f} with other concepts of its own video.",
            f"The concepts of a text span {mean['rank_text']:.1f} directions (effective rank).",
            f"Padding gets {100 * mean['attention_on_padding']:.0f} % of the attention on texts.",
            f"The frame weights have a normalised entropy of {mean['frame_weight_entropy']:.3f}; 1 is a plain mean of "
            "the frames.",
        ]

    def summary(self, factors: pd.DataFrame | None) -> dict:
        """The content of `concepts.json`. factors: as `factors` returns them."""
        return {
            "answer": self.answer(),
            "details": self.details(),
            "seeds": self.statistics.to_dict("index"),
            "mean": self.statistics.mean().to_dict(),
            "target": self.target,
            "texts": len(self.test),
            "videos": len(self.test.videos),
            "concepts": len(self.numbers),
            "variant": self.config.variant,
            "batch_size": self.batch_size,
            "padding_share_of_positions": self.padding_positions["texts"],
            "factors_r2": {} if factors is None else factors.to_dict("index"),
            "favourite_words": dict(zip(self.numbers, self.favourite_words, strict=True)),
        }

    @cached_property
    def _tokens(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.corpus.processor.tokenise(self.test.captions["text"].tolist())

    @cached_property
    def _on_words(self) -> list[torch.Tensor]:
        return [concepts.word_attention(model, self.test) for model in self.models]

    @cached_property
    def _by_word(self) -> pd.DataFrame:
        return concepts.by_word(self._on_words[0], *self._tokens, self.corpus.processor.tokenizer)

    @cached_property
    def _entropies(self) -> list[torch.Tensor]:
        pairs = [(texts, take(videos, self.test.video_of_text)) for texts, videos in self.embeddings]
        return [
            concepts.normalised_entropy(concepts.frame_weights(texts.sentence, videos, self.config), videos.mask)
            for texts, videos in pairs
        ]
