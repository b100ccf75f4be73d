"""Queries of a finished pipeline one by one: where two methods differ, which of them to show, two folders compared.

What the notebook `explore` shows is computed here and in `glscl.study.explore_models`; nothing is written.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from glscl.bundled.grammar import read_told
from glscl.evaluation.comparisons import points, rank_matrix
from glscl.evaluation.results import describe
from glscl.evaluation.statistics import paired_difference
from glscl.study.parameters import world_of
from glscl.study.project import Folders

ANY = "any"  # number of events, or fact: no filter
HEADER = f"{'one':>7} {'other':>7}   text"  # of the lines of `row_text`


class Chosen(NamedTuple):
    """One corpus of a profile as params.yaml has it.

    world: `features` or `videos`. methods, seeds: what is trained on it; a re-ranker ranks no gallery alone and is not
    among them. corpus, inputs: its sections.
    """

    profile: str
    dataset: str
    world: str
    methods: list[str]
    seeds: list[int]
    corpus: dict
    inputs: dict

    @classmethod
    def of(cls, params: dict, profile: str, dataset: str) -> "Chosen":
        """The corpus `dataset` of a profile. Raises ValueError where `study` does not name it."""
        world = world_of(params, dataset)
        trained, about = params["profiles"][profile][world], params["datasets"][dataset]
        return cls(profile, dataset, world, trained["methods"], trained["seeds"], about["corpus"], about["inputs"])

    @property
    def folders(self) -> Folders:
        """Where its stages read and write."""
        return Folders.of(self.profile, self.dataset)

    @property
    def source(self) -> Path | None:
        """Folder of its videos and their captions; None for a corpus of features."""
        return Path(self.corpus["folder"]) if self.world == "videos" else None

    @property
    def stage(self) -> str:
        """The DVC stage that evaluates it; with all stages that come before, it makes whatever is shown here."""
        prefix = ("full_" if self.profile == "full" else "") + ("videos_" if self.world == "videos" else "")
        return f"{prefix}evaluate@{self.profile}-{self.world}-{self.dataset}"


def missing(chosen: Chosen) -> str:
    """What is not there yet of a corpus and the command that makes it, in one sentence; empty where nothing is."""
    if len(chosen.methods) < 2:
        trained = ", ".join(chosen.methods) or "none"
        return (
            f"Two methods are compared here, and profile {chosen.profile} trains {trained} on {chosen.dataset}; "
            f"name more of them in params.yaml, then run `dvc repro {chosen.stage}`."
        )
    if chosen.source and not chosen.source.exists():
        remedy = "run `dvc pull data.dvc`" if chosen.source.parts[0] == "data" else "docs/data.md says how to get it"
        return f"The videos of {chosen.dataset} are not in {chosen.source}; {remedy}."
    corpus, work = chosen.folders.corpus, chosen.folders.work
    inputs = corpus / ("features/test.safetensors" if chosen.inputs["backbone"] == "frozen" else "frames/store.json")
    trained = [work / f"train/{method}/seed-{seed}" for method in chosen.methods for seed in chosen.seeds]
    needed = [corpus / "captions.parquet", inputs, *trained, work / "ranks.parquet"]
    absent = next((path for path in needed if not path.exists()), None)
    return f"{absent} is not there yet; run `dvc repro {chosen.stage}`, which makes it." if absent else ""


def first_finished(params: dict) -> tuple[str, str]:
    """Profile and dataset of the first corpus of which nothing is missing, the full profile first; else the first."""
    datasets = [dataset for of_world in params["study"].values() for dataset in of_world]
    every = [(profile, dataset) for profile in reversed(params["profiles"]) for dataset in datasets]
    return next((one for one in every if not missing(Chosen.of(params, *one))), every[-len(datasets)])


def queries(captions: pd.DataFrame, source: Path | None) -> pd.DataFrame:
    """The texts of the test split, in the order of their ranks: columns text, video, words, events, told and facts.

    captions: of a prepared corpus. source: folder of a corpus of videos. words: of the text. told: what the text
    tells, as `glscl.bundled.grammar.write_told` writes it, and "" where that is not known. events: that it tells of, 0
    where that is not known. facts: what it tells and what its video shows, such as `tells of motion`,
    `tells motion=left` and `shows motion=left`.
    """
    table = captions[captions["split"] == "test"].reset_index(drop=True)
    told = table["told"].tolist() if "told" in table else _told_of(table, source)
    events = [read_told(cell) if cell else [] for cell in told]
    shown = _shown_facts(source)
    return pd.DataFrame(
        {
            "text": table["text"],
            "video": table["video"],
            "words": table["text"].str.split().str.len(),
            "events": list(map(len, events)),
            "told": told,
            "facts": [_told_facts(of) | shown.get(v, set()) for of, v in zip(events, table["video"], strict=True)],
        }
    )


def _told_of(table: pd.DataFrame, source: Path | None) -> list[str]:
    """What each text tells, by the captions.csv of a bundled corpus; "" where there is none."""
    file = source / "captions.csv" if source else None
    listed = pd.read_csv(file) if file and file.exists() else pd.DataFrame()
    if "told" not in listed:
        return [""] * len(table)
    known = dict(zip(zip(listed["video"], listed["caption"], strict=True), listed["told"].fillna(""), strict=True))
    return [known.get(pair, "") for pair in zip(table["video"], table["text"], strict=True)]


def _told_facts(events: list[dict[str, str]]) -> set[str]:
    facts = [fact for event in events for fact in event.items()]
    return {f"tells of {factor}" for factor, _ in facts} | {f"tells {factor}={value}" for factor, value in facts}


def _shown_facts(source: Path | None) -> dict[str, set[str]]:
    """What each video shows, by the events.csv of a bundled corpus; empty where there is none."""
    if not source or not (source / "events.csv").exists():
        return {}
    events = pd.read_csv(source / "events.csv").drop(columns=["event", "start", "end"])
    facts = events.melt("video", var_name="factor")
    said = "shows " + facts["factor"] + "=" + facts["value"].astype(str)
    return said.groupby(facts["video"]).agg(set).to_dict()


def fact_options(table: pd.DataFrame) -> list[str]:
    """All facts of a table of `queries`, after `ANY`."""
    return [ANY, *sorted(set().union(*table["facts"]))]


def filtered(table: pd.DataFrame, words: tuple[int, int], events: int | str, fact: str) -> pd.DataFrame:
    """The rows of a table of `queries` with so many words, both ends included, and told events and a fact, or `ANY`."""
    kept = table["words"].between(*words)
    if events != ANY:
        kept &= table["events"] == events
    if fact != ANY:
        kept &= table["facts"].map(lambda facts: fact in facts).astype(bool)
    return table[kept]


def disagreements(table: pd.DataFrame, ranks: pd.DataFrame, one: str, other: str, seed: int) -> pd.DataFrame:
    """A table of `queries` with the columns one, other and times, those first on which two methods differ most.

    ranks: as the evaluate stage writes them. one, other: rank, from 1, that each method gives the right video. times:
    the larger over the smaller, so that 2 and 20 differ as much as 50 and 500. The index is the row of the query.
    """
    of_seed = ranks[ranks["seed"] == seed]
    found = {
        name: _matching(rank_matrix(of_seed, method)[0] + 1, table)
        for name, method in {"one": one, "other": other}.items()
    }
    times = np.maximum(*found.values()) / np.minimum(*found.values())
    return table.assign(**found, times=times).sort_values("times", ascending=False, kind="stable")


def _matching(rank: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """The ranks (..., queries), where they are of the texts of the table; else ValueError."""
    if rank.shape[-1] != len(table):
        raise ValueError(
            f"ranks are needed of {len(table):,} test texts, got {rank.shape[-1]:,}; run the evaluate stage again."
        )
    return rank


def row_text(row: pd.Series) -> str:
    """One query of `disagreements` as a line of a list."""
    return f"{row['one']:>7g} {row['other']:>7g}   {row['text']}"


class Comparison(NamedTuple):
    """Two methods, of the same folder or of two, on the same queries.

    effect: of `paired_difference`, in points of the metric. seeds: those that both have. table: columns text, one and
    other (rank from 1, mean over seeds) and points (one minus other), the largest gain first and the largest loss last.
    """

    metric: str
    effect: dict
    seeds: list[int]
    table: pd.DataFrame

    def sentence(self) -> str:
        """What was found."""
        difference = describe(*(self.effect[name] for name in ("difference", "low", "high")))
        runs = f"seeds {', '.join(map(str, self.seeds))}" if self.seeds else "a run without a seed"
        return (
            f"One minus other: {self.metric} {difference} points, a 95 % interval over {len(self.table):,} queries and "
            f"{runs}; p = {self.effect['p']:.3f}, not corrected for other looks."
        )


def ranked_folders() -> list[str]:
    """The folders of this project that hold ranks, work/<profile>/<dataset>."""
    return sorted(str(file.parent) for file in Path("work").glob("*/*/ranks.parquet"))


def methods_of(folder: str | Path) -> list[str]:
    """The rows whose ranks a folder holds."""
    return read_ranks(folder)["method"].unique().tolist()


def read_ranks(folder: str | Path) -> pd.DataFrame:
    """The ranks in a folder. Raises FileNotFoundError where there are none."""
    file = Path(folder) / "ranks.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} should hold ranks.parquet, which is absent; run its evaluate stage.")
    return pd.read_parquet(file)


def compare_folders(one: tuple[str | Path, str], other: tuple[str | Path, str], metric: str = "R@1") -> Comparison:
    """Compare two (folder, method) text by text, as `paired_difference` does, over the seeds that both have.

    A folder is work/<profile>/<dataset> of this or another checkout; the texts are those of work/corpora/<dataset>
    beside it. metric: as in `glscl.evaluation.comparisons.points`. Raises FileNotFoundError where something is absent,
    and ValueError where the texts are not the same or no seed is shared.
    """
    texts = [_test_texts(Path(folder)) for folder, _ in (one, other)]
    if not texts[0].equals(texts[1]):
        raise ValueError(
            f"both folders need the same test texts, got {len(texts[0]):,} in {one[0]} and {len(texts[1]):,} others in "
            f"{other[0]}; compare runs on one corpus."
        )
    ranks = [read_ranks(folder) for folder, _ in (one, other)]
    ranks = [each[each["method"] == method] for each, (_, method) in zip(ranks, (one, other), strict=True)]
    found = [set(each.loc[each["split"] == "test", "seed"].dropna().tolist()) for each in ranks]
    seeds = sorted(found[0] & found[1] if all(found) else found[0] | found[1])
    if all(found) and not seeds:
        raise ValueError(f"both runs need a seed in common, got {sorted(found[0])} and {sorted(found[1])}; train one.")
    kept = [each[each["seed"].isin(seeds) | each["seed"].isna()] for each in ranks]
    pair = [rank_matrix(each, method) for each, (_, method) in zip(kept, (one, other), strict=True)]
    rank = [_matching(each, texts[0]) for each in np.broadcast_arrays(*pair)]
    gained = [points(each, metric) for each in rank]
    means = {name: each.mean(0) + 1 for name, each in zip(("one", "other"), rank, strict=True)}
    table = texts[0][["text"]].assign(**means, points=(gained[0] - gained[1]).mean(0))
    effect = paired_difference(*gained, texts[0]["video"].to_numpy())
    return Comparison(
        metric, effect, list(map(int, seeds)), table.sort_values("points", ascending=False, kind="stable")
    )


def _test_texts(folder: Path) -> pd.DataFrame:
    """Columns text and video of the test split that the ranks in work/<profile>/<dataset> are of."""
    file = folder.absolute().parents[1] / "corpora" / folder.name / "captions.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} needs the captions of its corpus in {file}; run its prepare stage.")
    captions = pd.read_parquet(file)
    return captions.loc[captions["split"] == "test", ["text", "video"]].reset_index(drop=True)
