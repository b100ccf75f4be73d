"""What the ledger of claims rests on: the results of the other stages, findings made of them, and the verdict."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from glscl.head import MatchingHead
from glscl.model import global_similarity
from glscl.published import published

VERDICTS = ("supported", "supported in part", "contradicted", "needs the real benchmark")


class Finding(NamedTuple):
    """A number and where it stands; holds: whether it speaks for the claim, None where it decides nothing."""

    text: str
    value: float
    holds: bool | None
    page: str
    figure: str
    low: float | None = None
    high: float | None = None


class Evidence(NamedTuple):
    """What the other stages found.

    published: see `glscl.published`. costs: results/costs.json. parameters: numbers of weights by part of GLSCL's head,
    see `parameters`. corpora: {dataset: {stage: its JSON}}, thorough runs under "<stage>-thorough".
    """

    published: pd.DataFrame
    costs: dict
    parameters: dict[str, int]
    corpora: dict[str, dict[str, dict]]

    def of(self, stage: str) -> Iterator[tuple[str, dict, bool]]:
        """(corpus and kind of run for a reader, JSON, whether it decides) of every corpus that has the stage.

        A thorough run stands beside the default one and decides nothing.
        """
        for dataset, found in self.corpora.items():
            if stage in found:
                yield dataset, found[stage], True
            if f"{stage}-thorough" in found:
                yield f"{dataset}, thorough run", found[f"{stage}-thorough"], False


def read_evidence(folder: str | Path, needed: dict[str, list[str]], parameters: dict[str, int]) -> Evidence:
    """Read results/: costs.json, published.csv, and of each dataset the JSON of its stages.

    needed: {dataset: names of its files}, such as {"scenes": ["metrics", "losses"]}. Raises FileNotFoundError that
    names the stage to run where one is absent.
    """
    folder = Path(folder)

    def read(file: Path, stage: str) -> dict:
        if not file.exists():
            raise FileNotFoundError(f"the ledger reads {file}, which is absent; run the stage {stage}.")
        return json.loads(file.read_text())

    corpora = {}
    for dataset, names in needed.items():
        stages = {name: "evaluate" if name == "metrics" else name for name in names}
        found = {name: read(folder / dataset / f"{name}.json", f"{stages[name]} of {dataset}") for name in names}
        thorough = sorted((folder / dataset).glob("*-thorough.json"))
        corpora[dataset] = found | {file.stem: json.loads(file.read_text()) for file in thorough}
    costs = read(folder / "costs.json", "costs")
    return Evidence(published(folder / "published.csv"), costs, parameters, corpora)


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


def verdict(findings: list[Finding]) -> str:
    """One of `VERDICTS`: supported where every deciding finding speaks for the claim, contradicted where none does,
    supported in part otherwise, and in need of the real benchmark where no finding decides.
    """
    deciding = [finding.holds for finding in findings if finding.holds is not None]
    if not deciding:
        return "needs the real benchmark"
    return "supported" if all(deciding) else "supported in part" if any(deciding) else "contradicted"
