"""The corpus of features, as a stage makes it: what could be reached on it, and how its features lie."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from glscl.bundled.facets import Facets, World, build, make, require_inputs, unit
from glscl.report.figures.common import PALETTE, TEMPLATE

GRID_TEXTS = 300  # of the ceilings of other worlds: enough for a figure
OBJECTS, CONCEPTS = (1, 2, 3), (1, 2, 3)  # per event, and per text
KINDS = {"bag": "bag of facts", "bound": "bound to objects", "ordered": "and in order"}


class FeatureCorpus(NamedTuple):
    """The corpus as it was written, its ceilings, and those with other numbers of objects and of told concepts."""

    world: World
    ceilings: dict[str, dict[str, float]]
    grid: pd.DataFrame

    def summary(self) -> dict:
        """The content of `data.json`, with the keys of a corpus of videos."""
        table, made = self.world.captions(), self.world.made
        counts = table.groupby("split", sort=False).agg(captions=("text", "size"), videos=("video", "nunique"))
        return {
            "splits": counts.to_dict("index"),
            "missing": 0,
            "missing_videos": [],
            "frames": made.frames,
            "sampling": "made of features",
            "offsets": 1,
            "quality": None,
            "ceilings": self.ceilings,
        }

    def geometry(self) -> dict[str, float]:
        """Norms, and mean cosines of items within and across modalities, of the test split.

        `matching`, `other`: of a sentence with the mean frame of its video, and of other videos. `zero_shot`: R@1,
        percent, of that cosine.
        """
        _, texts = self.world.of("test")
        sentences = unit(self.world.words["test"][:, -1])
        frames = self.world.frames[np.unique(self.world.texts["test"].owner)]
        videos = unit(unit(frames).mean(1))
        across = sentences @ videos.T
        own = across[np.arange(len(across)), texts.owner]
        return {
            "frame norm": float(np.linalg.norm(frames, axis=-1).mean()),
            "two frames of other videos": _off_diagonal(unit(frames[:, 0])),
            "two sentences": _off_diagonal(sentences),
            "sentence and its video": float(own.mean()),
            "sentence and another video": float((across.sum() - own.sum()) / (across.size - len(own))),
            "zero_shot": 100 * float((across.argmax(1) == texts.owner).mean()),
        }

    def examples(self, count: int = 3) -> pd.DataFrame:
        """The first texts of the test split that have all kinds of twins, and these."""
        table = self.world.captions()
        twins = table[table["of"].notna()]
        complete = twins.groupby("of")["split"].nunique().eq(twins["split"].nunique())
        chosen = complete.index[complete][:count]
        rows = table[table["caption_id"].isin(chosen)].assign(of=lambda own: own["caption_id"])
        shown = pd.concat([rows, twins[twins["of"].isin(chosen)]]).sort_values(["of", "caption_id"])
        return shown[["video", "split", "text"]]

    def ceiling_figure(self) -> go.Figure:
        """R@1 of the three matchers by objects per event, one panel per number of told concepts."""
        figure = go.Figure()
        for colour, (kind, name) in zip(PALETTE, KINDS.items(), strict=False):
            for number, (concepts, rows) in enumerate(self.grid.groupby("concepts")):
                where = [f"{concepts} told"] * len(rows), [f"{objects} shown" for objects in rows["objects"]]
                figure.add_bar(
                    x=where, y=rows[kind], name=name, marker_color=colour, legendgroup=kind, showlegend=number == 0
                )
        return figure.update_layout(
            template=TEMPLATE, height=360, margin_t=20, yaxis_title="R@1, %", legend={"orientation": "h", "y": 1.12}
        )

    def answer(self) -> str:
        """What a head must do here, in one sentence."""
        bag, bound, ordered = (self.ceilings[kind]["R@1"] for kind in KINDS)
        return (
            f"A bag of facts reaches R@1 {bag:.1f}, facts bound to objects {bound:.1f}, in order {ordered:.1f}; "
            f"untrained mean pooling has {self.geometry()['zero_shot']:.1f}."
        )


def make_corpus(corpus: dict, inputs: dict, folder: Path) -> FeatureCorpus:
    """Make the corpus and write it as `glscl.bundled.facets.write` does.

    corpus: fields of `Facets`. inputs: `clip`, which must be the folder's own, `frames` and `words`. Raises ValueError
    where the inputs are not those of the corpus.
    """
    made = Facets(**corpus)
    require_inputs(made, inputs, folder)
    world = build(made, folder)
    return FeatureCorpus(world, world.ceilings(), ceiling_grid(made))


def ceiling_grid(made: Facets) -> pd.DataFrame:
    """R@1, percent, of the matchers `KINDS` for other numbers of objects per event and of told concepts."""
    rows = []
    for objects in OBJECTS:
        for concepts in CONCEPTS:
            if concepts > made.events:
                continue
            other = replace(made, objects=objects, concepts=concepts, train=1, val=1, test=GRID_TEXTS)
            found = {kind: one["R@1"] for kind, one in make(other).ceilings().items()}
            rows.append({"objects": objects, "concepts": concepts} | found)
    return pd.DataFrame(rows)


def _off_diagonal(vectors: np.ndarray) -> float:
    """Mean cosine of two different vectors, (vectors, width) of unit length."""
    cosines = vectors @ vectors.T
    return float((cosines.sum() - np.trace(cosines)) / (cosines.size - len(cosines)))
