"""What the ledger of claims rests on: the results of the other stages, and findings made of them."""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from glscl.base import MatchingHead
from glscl.model import global_similarity
from glscl.study.counting import SIZES, build, random_features
from glscl.study.published import FIVE, comparable, own_tables, published

VERDICTS = ("supported", "contradicted", "not decided here", "needs the real benchmark")
SUPPORTED, CONTRADICTED, UNDECIDED, NEEDS_BENCHMARK = VERDICTS
PUBLISHED, MEASURED, TIME = KINDS = ("published", "measured", "time")  # of evidence; times are of one machine
ABOVE, BELOW, WITHIN = "above", "below", "within"  # a threshold; within: the threshold on either side of zero
STAGES = ("concepts", "benchmarks")  # results of a corpus beside its metrics, and of one that questions are asked on
QUESTIONS = ("losses", "convergence", "transfer")


class Place(NamedTuple):
    """Where a result is drawn: the page, the table or figure there, and words that its caption has."""

    page: str
    figure: str
    caption: str


# Findings name results by these keys. Who moves or renumbers a table or figure changes its place here, nowhere else.
SHOWN = {
    "ledger.parameters": Place("12_ledger", "Table 1", "Weights of GLSCL's head"),
    "ledger.published": Place("12_ledger", "Table 2", "published rows that the rules use"),
    "ledger.ablations": Place("12_ledger", "Table 3", "paper's own ablation"),
    "metrics.glscl_minus": Place("04_evaluate", "Figure 2", "GLSCL minus each method"),
    "metrics.over_control": Place("04_evaluate", "Figure 1", "over its control"),
    "concepts.seeds": Place("05_concepts", "Table 1", "Mean over seeds"),
    "costs.over_glscl": Place("06_costs", "Table 1", "over GLSCL's"),
    "costs.queries": Place("06_costs", "Figure 2", "Time of one search"),
    "costs.published": Place("06_costs", "Table 4", "column FLOPs"),
    "costs.heads": Place("06_costs", "Table 5", "MACs of matrix products"),
    "costs.search": Place("06_costs", "Table 8", "CLIP's text encoder"),
    "costs.whole_matrix": Place("06_costs", "Figure 6", "1,000 texts with 1,000 videos"),
    "benchmarks.rows": Place("08_benchmarks", "Table 1", "text to video"),
    "losses.contrasts": Place("09_losses", "Table 3", "what a part does to the concepts"),
    "losses.doses": Place("09_losses", "Table 2", "Every condition"),
    "convergence.macs_to_goal": Place("10_convergence", "Figure 3", "multiply-accumulates"),
    "transfer.over_untrained": Place("11_transfer", "Table 1", "The difference of Figure 2"),
}


class Finding(NamedTuple):
    """A number and the result that it is part of, a key of `SHOWN`; `kind` is one of `KINDS`.

    low, high: its interval, None where it has none; a count has none and is exact. The one finding that decides a claim
    has a `threshold` and a `direction`: the claim holds where the truth lies above it, below it, or within it on either
    side of zero. Findings without a threshold are context.
    """

    text: str
    value: float
    result: str
    low: float | None = None
    high: float | None = None
    kind: str = MEASURED
    threshold: float | None = None
    direction: str | None = None

    def edges(self) -> tuple[float, float]:
        """The interval, which of an exact number is the number itself."""
        return (self.value, self.value) if self.low is None else (self.low, self.high)

    def verdict(self) -> str:
        """Supported or contradicted where the whole interval lies on one side of the threshold, else not decided."""
        (low, high), threshold = self.edges(), self.threshold
        if self.direction == WITHIN:
            inside, outside = -threshold < low and high < threshold, low >= threshold or high <= -threshold
        elif self.direction == ABOVE:
            inside, outside = low > threshold, high <= threshold
        else:
            inside, outside = high < threshold, low >= threshold
        return SUPPORTED if inside else CONTRADICTED if outside else UNDECIDED

    def changes_at(self) -> list[float]:
        """The thresholds at which the verdict would become another one: the nearest, or both where none is reached."""
        low, high = self.edges()
        if self.direction == WITHIN:
            sizes = abs(low), abs(high)
            low, high = 0.0 if low < 0 < high else min(sizes), max(sizes)
        if self.verdict() == UNDECIDED:
            return [edge for edge in (low, high) if self.direction != WITHIN or edge > 0]
        return [min(low, high, key=lambda edge: abs(edge - self.threshold))]


class Evidence(NamedTuple):
    """What the other stages found.

    published: see `glscl.study.published`. costs: what is counted, and measured_costs: what was measured, empty where
    no measurement is at hand, see `glscl.study.costs`. parameters: numbers of weights by part of GLSCL's head, see
    `parameters`. corpora: {dataset: {stage: its JSON}}, in the order of the study.
    """

    published: pd.DataFrame
    costs: dict
    measured_costs: dict
    parameters: dict[str, int]
    corpora: dict[str, dict[str, dict]]

    def of(self, stage: str) -> list[tuple[str, dict]]:
        """(dataset, JSON) of every corpus that has the stage: real benchmarks first, else in the order of the study."""
        found = [(dataset, stages[stage]) for dataset, stages in self.corpora.items() if stage in stages]
        return sorted(found, key=lambda one: self.benchmark(one[0]) is None)

    def of_glscl(self, stage: str) -> list[tuple[str, dict]]:
        """The same for a stage about GLSCL alone, without corpora on which it did not train."""
        return [(dataset, found) for dataset, found in self.of(stage) if "glscl" not in self.failed(dataset)]

    def benchmark(self, dataset: str) -> str | None:
        """Which of the paper's five benchmarks a corpus is, None where it is none of them."""
        name = self.corpora[dataset].get("benchmarks", {}).get("scope", {}).get("benchmark")
        return name if name in FIVE else None

    def failed(self, dataset: str) -> set[str]:
        """Methods that did not train on a corpus: no claim rests on them."""
        return set(self.corpora[dataset]["metrics"]["did_not_train"])


def read_evidence(
    profile: str,
    datasets: list[str],
    questions: list[str],
    parameters: dict[str, int],
    results: str | Path = "results",
) -> Evidence:
    """Read the results of a profile: its counted and measured costs, the published rows, what each dataset has.

    questions: the datasets that losses, convergence and transfer are asked on. Raises FileNotFoundError that names the
    stage to run where the costs or the metrics of a dataset are absent. Other results may be: claims that rest on them
    stay undecided.
    """
    results = Path(results)

    def read(file: Path, stage: str) -> dict:
        if not file.exists():
            raise FileNotFoundError(f"the ledger reads {file}, which is absent; run the stage {stage}.")
        return json.loads(file.read_text(encoding="utf-8"))

    corpora = {}
    for dataset in datasets:
        folder = results / profile / dataset
        corpora[dataset] = {"metrics": read(folder / "metrics.json", f"evaluate of {dataset}")}
        names = (*STAGES, *QUESTIONS) if dataset in questions else STAGES
        corpora[dataset] |= {name: read(file, name) for name in names if (file := folder / f"{name}.json").exists()}
    costs, timed = read(results / profile / "costs.json", "costs"), results / "measured" / profile / "costs.json"
    measured = read(timed, "costs") if timed.exists() else {}
    return Evidence(published(results / "published.csv"), costs, measured, parameters, corpora)


def parameters(head: MatchingHead, sentence, frames, mask) -> dict[str, int]:
    """Numbers of weights of GLSCL's head: what the global score depends on, the temporal encoder, the rest.

    A weight belongs to the global interaction if a global score has a gradient in it and the temporal encoder, which
    feeds both interactions, does not hold it. sentence (texts, width), frames (videos, frames, width), mask (videos,
    frames). Returns {"global interaction", "temporal encoder", "local interaction"}.
    """
    names, weights = zip(*head.named_parameters(), strict=True)
    scores = global_similarity(sentence, head.encode_videos(frames, mask), 1 / head.config.temperature)
    reached = torch.autograd.grad(scores.sum(), weights, allow_unused=True)
    sizes = {"global interaction": 0, "temporal encoder": 0, "local interaction": 0}
    for name, weight, gradient in zip(names, weights, reached, strict=True):
        part = name.partition(".")[0]
        if part == "temporal":
            sizes["temporal encoder"] += weight.numel()
        elif gradient is not None:
            sizes["global interaction"] += weight.numel()
        elif part == "local":
            sizes["local interaction"] += weight.numel()
    return sizes


def parameters_at_full_size() -> dict[str, int]:
    """`parameters` of GLSCL's head at the size of CLIP ViT-B/32, with random weights (seed 0)."""
    torch.manual_seed(0)
    head = build("glscl", *SIZES["short"])
    sentence, _, _, frames, mask = random_features(head.config, 2)
    return parameters(head, sentence, frames, mask)


def best_published(papers: pd.DataFrame) -> pd.DataFrame:
    """The published rows that the rules use, a row per benchmark: GLSCL, the best of its tables, with CLIP, without.

    papers: see `glscl.study.published.published`. Cells are R@1 of text to video and the system, None where none is.
    """
    rows, listed = comparable(papers), []
    for benchmark in rows["dataset"].unique():
        own, other = own_tables(papers, benchmark) if benchmark in FIVE else (None, None)
        row = {"benchmark": benchmark, "GLSCL": own["r1"] if benchmark in FIVE else None}
        row["best other of its tables"] = f"{other['r1']} {other['method']}" if benchmark in FIVE else None
        for name, kind in (("with CLIP", "ViT"), ("without", "non-CLIP")):
            there = rows[(rows["dataset"] == benchmark) & rows["backbone"].str.contains(kind)]
            top = there.loc[there["r1"].idxmax()] if len(there) else None
            row[f"best {name}"] = f"{top['r1']} {top['method']}, {top['backbone']}" if len(there) else None
        listed.append(row)
    return pd.DataFrame(listed)


# The weights of the parts that the paper chose.
ABLATED = {"local interaction": "xi=0.5", "intra-diversity": "alpha=1e-4", "inter-consistency": "beta=0.005"}


def own_ablations(papers: pd.DataFrame) -> pd.DataFrame:
    """What the paper's own ablation says of each part: R@1 at its chosen weight and at weight 0, each a single run.

    Columns: part, weight, with, without, "minus without".
    """
    rows = comparable(papers).set_index("method")["r1"]
    listed = []
    for part, chosen in ABLATED.items():
        names = f"GLSCL ablation {chosen}", f"GLSCL ablation {chosen.partition('=')[0]}=0"
        own, without = (float(rows[name]) for name in names)
        row = {"part": part, "weight": chosen, "with": own, "without": without}
        listed.append(row | {"minus without": own - without})
    return pd.DataFrame(listed)
