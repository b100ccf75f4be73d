"""What the ledger of claims rests on: the results of the other stages, findings made of them, and the verdict."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from glscl.base import MatchingHead
from glscl.model import global_similarity
from glscl.study.counting import SIZES, build, random_features
from glscl.study.published import FIVE, comparable, own_tables, published

VERDICTS = ("supported", "supported in part", "contradicted", "needs the real benchmark")


class Place(NamedTuple):
    """Where a result is drawn: the page, the table or figure there, and words that its caption has."""

    page: str
    figure: str
    caption: str


# Findings name results by these keys. Who moves or renumbers a table or figure changes its place here, nowhere else.
SHOWN = {
    "ledger.parameters": Place("12_ledger", "Table 1", "Weights of GLSCL's head"),
    "ledger.published": Place("12_ledger", "Table 2", "published rows that the rules use"),
    "metrics.glscl_minus": Place("04_evaluate", "Figure 1", "GLSCL minus each method"),
    "concepts.seeds": Place("05_concepts", "Table 1", "Statistics of the concept"),
    "costs.queries": Place("06_costs", "Figure 1", "Time of one search"),
    "costs.over_glscl": Place("06_costs", "Table 1", "over GLSCL's"),
    "costs.published": Place("06_costs", "Table 2", "column FLOPs"),
    "costs.heads": Place("06_costs", "Table 3", "MACs of matrix products"),
    "costs.search": Place("06_costs", "Table 6", "CLIP's text encoder"),
    "costs.whole_matrix": Place("06_costs", "Figure 4", "1,000 texts with 1,000 videos"),
    "benchmarks.over_zero_shot": Place("08_benchmarks", "Table 5", "minus zero-shot CLIP"),
    "losses.effects": Place("09_losses", "Figure 1", "points of text-to-video R@1"),
    "losses.concept_effects": Place("09_losses", "Table 8", "full minus ablated"),
    "convergence.macs_to_90": Place("10_convergence", "Table 2", "to 90 % of the common best"),
    "transfer.over_clip": Place("11_transfer", "Figure 1", "minus that of zero-shot CLIP"),
    "transfer.retained": Place("11_transfer", "Table 1", "in percent of that of the same head"),
}


class Finding(NamedTuple):
    """A number and the result that it is part of, a key of `SHOWN`.

    holds: whether it supports the claim or contradicts it; None where it is context and decides nothing.
    """

    text: str
    value: float
    holds: bool | None
    result: str
    low: float | None = None
    high: float | None = None


class Evidence(NamedTuple):
    """What the other stages found.

    published: see `glscl.study.published`. costs: what is counted, and measured_costs: what was measured, empty where
    no measurement is at hand, see `glscl.study.costs`. parameters: numbers of weights by part of GLSCL's head, see
    `parameters`. corpora: {dataset: {stage: its JSON}}.
    """

    published: pd.DataFrame
    costs: dict
    measured_costs: dict
    parameters: dict[str, int]
    corpora: dict[str, dict[str, dict]]

    def of(self, stage: str) -> Iterator[tuple[str, dict]]:
        """(dataset, JSON) of every corpus that has the stage."""
        return ((dataset, found[stage]) for dataset, found in self.corpora.items() if stage in found)


def needed(datasets: list[str], methods: list[str], concepts_of: list[str]) -> dict[str, list[str]]:
    """Names of the results that each dataset has, where these methods were trained on it: {dataset: names}."""
    names = ["metrics", "benchmarks"]
    names += ["concepts", "losses"] if concepts_of else []
    names += ["convergence", "transfer"] if methods else []
    return dict.fromkeys(datasets, names)


def read_evidence(
    profile: str, wanted: dict[str, list[str]], parameters: dict[str, int], results: str | Path = "results"
) -> Evidence:
    """Read the results of a profile: its counted and measured costs, the published rows, the JSON of each dataset.

    wanted: {dataset: names of its results}, as `needed` says. Raises FileNotFoundError that names the stage to run
    where one is absent; measured costs may be, since no verdict rests on them.
    """
    results = Path(results)

    def read(file: Path, stage: str) -> dict:
        if not file.exists():
            raise FileNotFoundError(f"the ledger reads {file}, which is absent; run the stage {stage}.")
        return json.loads(file.read_text(encoding="utf-8"))

    corpora = {}
    for dataset, names in wanted.items():
        stages = {name: "evaluate" if name == "metrics" else name for name in names}
        folder = results / profile / dataset
        corpora[dataset] = {name: read(folder / f"{name}.json", f"{stages[name]} of {dataset}") for name in names}
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


def verdict(findings: list[Finding]) -> str:
    """One of `VERDICTS`: supported where every deciding finding supports the claim, contradicted where none does,
    supported in part otherwise, and in need of the real benchmark where no finding decides.
    """
    deciding = [finding.holds for finding in findings if finding.holds is not None]
    if not deciding:
        return "needs the real benchmark"
    return "supported" if all(deciding) else "supported in part" if any(deciding) else "contradicted"
