"""What the study found, read from the results of a profile: answers, tables, the picture, the ledger."""

import json
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from glscl.evaluation.comparisons import ZERO_SHOT
from glscl.evaluation.results import METRICS, edges, reported, shown
from glscl.report.figures.overview import Point
from glscl.report.names import name_of
from glscl.report.page import significant
from glscl.study.claims import read_ledger
from glscl.study.parameters import load_params

GALLERY = 1_000  # videos that the query of the picture is compared with

# The rows of a short table and of small figures; where the profile has others, those follow.
MAIN = [
    ZERO_SHOT,
    "clip4clip_seqTransf",
    "x_pool_temporal",
    "x_clip",
    "t_mass_temporal",
    "cross_encoder_temporal",
    "glscl",
]


class Question(NamedTuple):
    """A research question, in full and in short; the stage that answers it, and its page in the report."""

    text: str
    short: str
    stage: str
    page: str
    per_corpus: bool = True


QUESTIONS = [
    Question(
        "How does the MASS framework (T-MASS) compare on ActivityNet Captions and Charades-STA with other text-video "
        "retrieval models (CLIP, UNITER-like cross-encoders) in mAP@10 and recall@K?",
        "How does T-MASS compare with other heads?",
        "benchmarks",
        "08_benchmarks.html",
    ),
    Question(
        "What does replacing cross-attention by global-local consistency do to latency and throughput in large-scale "
        "retrieval?",
        "Is global-local consistency faster than cross-attention?",
        "costs",
        "06_costs.html",
        per_corpus=False,
    ),
    Question(
        "What does removing the auxiliary cross-modal losses do?",
        "What do the auxiliary losses add?",
        "losses",
        "09_losses.html",
    ),
    Question(
        "Does consistency learning converge faster than attention-based alignment?",
        "Does GLSCL learn faster?",
        "convergence",
        "10_convergence.html",
    ),
    Question(
        "How well does each method carry over to another domain?",
        "What carries over to another domain?",
        "transfer",
        "11_transfer.html",
    ),
]


class Answer(NamedTuple):
    """The answer to a question on a corpus, in a sentence, with further facts; measured: it holds measured numbers."""

    sentence: str
    details: list[str]
    measured: bool = False


class Study(NamedTuple):
    """What a profile found.

    worlds: the corpora made of `features` and those of `videos`. settings: params.yaml. results: the folder that holds
    the numbers.
    """

    profile: str
    worlds: dict[str, list[str]]
    settings: dict
    results: Path

    @classmethod
    def read(cls, profile: str, worlds: dict[str, list[str]] | None = None, root: str | Path = ".") -> "Study":
        """The study in the project at `root`; without `worlds`, those of its params.yaml."""
        settings = load_params(root)
        return cls(profile, worlds or settings["study"], settings, Path(root) / "results")

    @classmethod
    def largest(cls, root: str | Path = ".") -> "Study":
        """The full study where the project at `root` has its results, else the quick one."""
        full = cls.read("full", root=root)
        return full if full.exists() else full._replace(profile="quick")

    @property
    def datasets(self) -> list[str]:
        """All corpora, those of features first."""
        return list(chain.from_iterable(self.worlds.values()))

    @property
    def questions(self) -> list[str]:
        """The corpora that losses, convergence and transfer are studied on."""
        return [name for name in self.settings["profiles"][self.profile]["questions"] if name in self.datasets]

    def trained(self, world: str) -> dict:
        """What the profile trains on corpora of a world: `methods`, `rerankers`, `concepts_of`, `seeds`, `train`."""
        return self.settings["profiles"][self.profile][world]

    def exists(self) -> bool:
        """Whether the profile has a main table of every corpus."""
        return all((self.results / self.profile / dataset / "table.csv").exists() for dataset in self.datasets)

    def found(self, stage: str, dataset: str = "", measured: bool = False) -> dict:
        """The JSON that a stage wrote, empty where it did not run."""
        folder = self.results / "measured" if measured else self.results
        file = folder / self.profile / dataset / f"{stage}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def table(self, dataset: str) -> pd.DataFrame:
        """All rows of a corpus, see `glscl.evaluation.results.summary`."""
        return pd.read_csv(self.results / self.profile / dataset / "table.csv")

    def counts(self, dataset: str) -> dict:
        """Texts and videos of the test split: {"captions": ..., "videos": ...}."""
        file = self.results / "corpora" / dataset / "data.json"
        return json.loads(file.read_text(encoding="utf-8"))["splits"]["test"]

    def ledger(self) -> dict:
        """The claims with their verdicts, see `glscl.study.claims.read_ledger`."""
        return read_ledger(self.profile, self.results)

    def hardware(self) -> str:
        """The machine that measured the times of this profile."""
        return self.found("costs", measured=True).get("hardware", "no machine: nothing was measured")

    def about(self, dataset: str) -> str:
        """The corpus, the sizes of its test split and the seeds, for a caption."""
        counts, table = self.counts(dataset), reported(self.table(dataset), "t2v")
        seeds = int(table["seeds"].max())
        said = f"{dataset}, {counts['captions']:,} texts and {counts['videos']:,} videos"
        return f"{said}, {seeds} seed{'s' * (seeds > 1)}"

    def main_methods(self, dataset: str) -> list[str]:
        """Seven methods at most for a short table: those of `MAIN` that were evaluated, then others."""
        evaluated = reported(self.table(dataset), "t2v")
        trained = evaluated.loc[evaluated["temporal_layers"].notna(), "method"]
        chosen = [name for name in MAIN if name in set(evaluated["method"])]
        return [*chosen, *(name for name in trained if name not in chosen)][: len(MAIN)] if len(chosen) < 3 else chosen


def answers(study: Study) -> list[tuple[Question, list[Answer]]]:
    """Every question with its answer on each corpus, as the stages wrote them into their results.

    An answer that holds measured numbers stands with those. A corpus without an answer, such as one that nothing was
    trained on, gets a sentence that names the stage that would give it.
    """
    return [
        (question, [_answer(study, question, dataset) for dataset in asked_of(study, question)])
        for question in QUESTIONS
    ]


def asked_of(study: Study, question: Question) -> list[str]:
    """The corpora that a question is answered on; one empty name where it is not about a corpus.

    The question about T-MASS is asked where it was trained, if it was anywhere.
    """
    if not question.per_corpus:
        return [""]
    if question.stage != "benchmarks":
        return study.questions
    trained = [
        dataset
        for world, datasets in study.worlds.items()
        for dataset in datasets
        if any(method.startswith("t_mass") for method in study.trained(world)["methods"])
    ]
    return trained or study.datasets


def _answer(study: Study, question: Question, dataset: str) -> Answer:
    same, timed = (study.found(question.stage, dataset, measured) for measured in (False, True))
    details = [*same.get("details", []), *timed.get("details", [])]
    sentence = f"Not answered here; the stage {question.stage} of this profile would do it."
    sentence = same.get("answer", timed.get("answer", sentence))
    if len(study.datasets) > 1 and dataset not in sentence:
        sentence = f"{dataset}: {sentence}"
    return Answer(sentence, details, "answer" not in same and "answer" in timed)


def heads(study: Study) -> dict[str, str]:
    """The head of each method that params.yaml describes; zero-shot CLIP compares as mean pooling does."""
    return {ZERO_SHOT: "mean_pooling"} | {name: entry["head"] for name, entry in study.settings["methods"].items()}


def re_ranked(study: Study, dataset: str) -> int:
    """How many videos of each text a cross-encoder re-ranks."""
    return study.found("metrics", dataset)["reranking"]["depth"]


def query_macs(study: Study, dataset: str) -> dict[str, int]:
    """Multiply-accumulates of one query against a gallery of `GALLERY` videos, by method; CLIP is left out.

    A cross-encoder re-ranks the best that mean pooling finds.
    """
    parts = {
        head: {part: sum(terms.values()) for part, terms in sizes["short"]["macs"].items()}
        for head, sizes in study.found("costs").get("heads", {}).items()
    }
    one = {head: macs["text"] + GALLERY * macs["pair"] for head, macs in parts.items()}
    if "cross_encoder" in parts:
        macs, depth = parts["cross_encoder"], re_ranked(study, dataset)
        one["cross_encoder"] = one["mean_pooling"] + macs["text"] + depth * macs["pair"]
    return {method: one[head] for method, head in heads(study).items() if head in one}


def points(study: Study, dataset: str) -> list[Point]:
    """The dots of the picture: every trained method under the temporal encoder that GLSCL has, or the most common one.

    So only the head differs between them. The cost is that of `query_macs`; a method without a cost is left out.
    """
    rows, macs = reported(study.table(dataset), "t2v"), query_macs(study, dataset)
    rows = rows[rows["temporal_layers"].notna()]
    own = rows.loc[rows["method"] == "glscl", "temporal_layers"]
    layers = own.iloc[0] if len(own) else rows["temporal_layers"].mode().max()
    rows = rows[(rows["temporal_layers"] == layers) & rows["method"].isin(macs)]
    names = {name: name_of(name) for name in rows["method"]}
    names |= {n: f"{names[n]}, best {re_ranked(study, dataset)}" for n in names if heads(study)[n] == "cross_encoder"}
    return [
        Point(names[row["method"]], macs[row["method"]], row["R@1"], *edges(row, "R@1"), row["method"] == "glscl")
        for _, row in rows.iterrows()
    ]


def untrained(study: Study, dataset: str) -> float | None:
    """R@1 of zero-shot CLIP, in percent; None where it was not evaluated."""
    rows = reported(study.table(dataset), "t2v")
    found = rows.loc[rows["method"] == ZERO_SHOT, "R@1"]
    return float(found.iloc[0]) if len(found) else None


def main_table(
    study: Study, dataset: str, direction: str = "t2v", split: str = "test", metrics=METRICS
) -> pd.DataFrame:
    """The study's results in one direction as a reader sees them, a row per method; see `shown`."""
    return shown(reported(study.table(dataset), direction, split), list(metrics)).reset_index(drop=True)


def short_table(study: Study, dataset: str) -> pd.DataFrame:
    """Text to video, seven rows at most: R@1 with its interval, R@10, median rank, and the work of a query."""
    rows = reported(study.table(dataset), "t2v").set_index("method", drop=False)
    rows, macs = rows.loc[study.main_methods(dataset)], query_macs(study, dataset)
    table = shown(rows, ["R@1", "R@10", "MdR"])
    for column in [name for name in table if name.startswith(("R@10", "MdR"))]:
        table[column] = table[column].str.split(" ").str[0]
    table["method"] = [name_of(name) for name in rows["method"]]
    table = table.drop(columns="R@1 over seeds")
    costs = [macs.get(name) for name in rows["method"]]
    table["million MACs of a query"] = [cost and significant(cost / 1e6) for cost in costs]
    return table
