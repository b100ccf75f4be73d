"""What is left out of GLSCL to see what it does, how its concepts develop, and the consistency term by itself.

A condition is named "<variant>/<ablation>", such as "released/no inter-consistency".
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from glscl.concepts import diversity
from glscl.losses import CONSISTENCY_TARGET, inter_consistency_loss
from glscl.runs import load_run
from glscl.splits import Split
from glscl.statistics import seed_interval

NO_INTER = {"moment_weight": 0.0, "consistency_weight": 0.0}
NO_INTRA = {"diversity_weight": 0.0}
NO_LOCAL = "no local interaction"
ABLATIONS = {
    "full": {},
    "no inter-consistency": NO_INTER,
    "no intra-diversity": NO_INTRA,
    "neither loss": NO_INTER | NO_INTRA,
    # With xi = 0 alone, the two losses would go on shaping the temporal encoder through the concepts.
    NO_LOCAL: {"local_weight": 0.0} | NO_INTER | NO_INTRA,
    "mean-pooled global": {"global_pooling": "mean"},
}


def changes(condition: str) -> dict:
    """The settings of `GLSCLConfig` that make a condition of the full model. KeyError at an unknown ablation."""
    variant, _, ablation = condition.partition("/")
    return {"variant": variant} | ABLATIONS[ablation]


def trained_as(variants: list[str]) -> dict[str, str]:
    """Every condition, and the one that is trained for it: itself, or the same model of the first variant.

    The variants differ in the local interaction and the two losses on its concepts. Without them they are one model.
    """
    return {
        f"{variant}/{ablation}": f"{variants[0] if ablation == NO_LOCAL else variant}/{ablation}"
        for variant in variants
        for ablation in ABLATIONS
    }


def concept_statistics(model, split: Split) -> dict[str, float]:
    """`glscl.concepts.diversity` of a GLSCL on a split, in evaluation mode."""
    texts, videos = split.encode(model)
    return diversity(texts.concepts, videos.concepts, split.video_of_text)


def over_training(folder: Path, split: Split) -> pd.DataFrame:
    """Learning curve of one run with `concept_statistics` on a split after every epoch, one row per epoch.

    folder: a `seed-<seed>` that `glscl.runs.train_seeds` kept with `keep_epochs`.
    """
    curve = pd.read_csv(folder / "curve.csv")
    found = [concept_statistics(load_run(folder, f"after-{epoch:04d}"), split) for epoch in curve["epoch"]]
    return pd.concat([curve, pd.DataFrame(found)], axis=1)


def concept_effects(at_end: pd.DataFrame) -> dict[str, dict[str, dict]]:
    """What a part does to the concepts: the full model minus the model without that part, seed by seed.

    at_end: a row per condition and seed, the full models among them; columns condition, seed, and the statistics.
    Returns {condition: {statistic: {"difference", "low", "high", "seeds"}}}: the mean over seeds, its 95 % t interval
    for new seeds, and the difference of every seed. Raises ValueError for fewer than two seeds.
    """
    values = at_end.set_index(["condition", "seed"])
    found = {}
    for condition in dict.fromkeys(at_end["condition"]):
        variant, _, ablation = condition.partition("/")
        if ablation == "full":
            continue
        found[condition] = {}
        for statistic, each in (values.loc[f"{variant}/full"] - values.loc[condition]).items():
            low, high = seed_interval(each)
            gap = {"difference": float(each.mean()), "low": low, "high": high, "seeds": each.tolist()}
            found[condition][statistic] = gap
    return found


def asked_cosine(variant: str, concepts: int, pairs: int) -> float:
    """Mean cosine of matching concepts at which the consistency term is least, in a batch of so many pairs."""
    return CONSISTENCY_TARGET * (concepts / pairs if variant == "released" else 1.0)


def consistency_term(cosines, variant: str, concepts: int, pairs: int, weight: float) -> np.ndarray:
    """The weighted second term of `inter_consistency_loss` where every matching pair has the same cosine.

    cosines: (values,), each from -1 to 1 -> (values,).
    """
    terms = []
    for cosine in np.asarray(cosines, dtype=float):
        text = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(pairs, concepts, 2)
        video = torch.tensor([cosine, np.sqrt(1 - cosine**2)]).expand(pairs, concepts, 2)
        terms.append(inter_consistency_loss(text, video, variant, 0.0, weight).item())
    return np.array(terms)
