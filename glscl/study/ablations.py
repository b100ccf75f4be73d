"""What is left out of GLSCL to see what it does: training, statistics, answer and tables of the losses notebook.

A condition is named "<variant>/<ablation>", such as "released/no inter-consistency". Effects are the full model minus
the model without a part, so a positive effect in R@1 means that the part helps.
"""

import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from glscl.base import load_backbone
from glscl.data.dataset import PreparedCorpus, Split
from glscl.encoding import encode_split, evaluate
from glscl.evaluation.concepts import diversity
from glscl.evaluation.results import DIRECTIONS, Run, describe
from glscl.evaluation.statistics import crossed_interval, holm, paired_difference, seed_interval
from glscl.losses import CONSISTENCY_TARGET, inter_consistency_loss
from glscl.methods import settings_of
from glscl.metrics import bootstrap
from glscl.model import GLSCL
from glscl.study.project import Folders
from glscl.training.runs import UNFINISHED, load_run, train_seeds
from glscl.training.trainer import TrainSettings

NO_INTER = {"moment_weight": 0.0, "consistency_weight": 0.0}
NO_INTRA = {"diversity_weight": 0.0}
NO_LOSS, NO_LOCAL = "neither loss", "no local interaction"
ABLATIONS = {
    "full": {},
    "no inter-consistency": NO_INTER,
    "no intra-diversity": NO_INTRA,
    NO_LOSS: NO_INTER | NO_INTRA,
    # With xi = 0 alone, the two losses would go on shaping the temporal encoder through the concepts.
    NO_LOCAL: {"local_weight": 0.0} | NO_INTER | NO_INTRA,
    "mean-pooled global": {"global_pooling": "mean"},
}
PARTS = {
    NO_LOCAL: "The local interaction with its losses",
    "no inter-consistency": "Inter-consistency",
    "no intra-diversity": "Intra-diversity",
    "mean-pooled global": "Text-conditioned pooling",
}
DEPTHS = (1, 5, 10)
LEVEL = 0.05
COMPARED = {
    "matched": "same, own",
    "wrong_pair": "same, wrong",
    "within_text": "in a text",
    "within_video": "in a video",
    "rank_text": "rank, text",
    "rank_video": "rank, video",
}
STATISTICS = [*COMPARED, "different", "across_text", "across_video", "dead_text", "dead_video"]
TERMS = ["loss_contrastive", "loss_inter_consistency", "loss_intra_diversity"]


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


def compared_with(variants: list[str]) -> dict[str, tuple[str, str]]:
    """Every condition without a part: what is trained for the full model of its variant, and for itself."""
    trained = trained_as(variants)
    full = {name: trained[f"{name.partition('/')[0]}/full"] for name in trained}
    return {name: (full[name], run) for name, run in trained.items() if not name.endswith("/full")}


def split_names(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with columns variant and ablation, the two parts of their column condition."""
    names = rows["condition"].str.split("/", expand=True).set_axis(["variant", "ablation"], axis=1)
    return pd.concat([rows, names], axis=1)


@dataclass(frozen=True)
class Study:
    """What the conditions share.

    missing: videos of the dataset that are absent or unreadable. corpus: with few captions per training video, so that
    an epoch is short. model: general settings of GLSCL, which a condition changes. settings: of every training. seeds:
    two or more. variants: `released`, `described`, or both. batch_sizes: of the sweep over batch sizes, which trains
    the smallest for `sweep_epochs` and larger ones longer, so that the steps are equally many. scratch: folder of
    models, each deleted once it is evaluated.
    Raises ValueError for fewer than two seeds, or for batches larger than the training split.
    """

    dataset: str
    missing: int
    corpus: PreparedCorpus
    model: dict
    settings: TrainSettings
    seeds: list[int]
    variants: list[str]
    batch_sizes: list[int]
    sweep_epochs: int
    scratch: Path

    def __post_init__(self):
        if len(self.seeds) < 2:
            raise ValueError(f"intervals over seeds need two seeds or more, got {self.seeds}; extend losses.seeds.")
        if (largest := max(self.settings.batch_size, *self.batch_sizes)) > self.training_texts:
            raise ValueError(
                f"batches must fit into the {self.training_texts} training texts, got {largest}; lower "
                "train.batch_size or losses.batch_sizes, or raise losses.captions_per_video."
            )

    @classmethod
    def open(cls, profile: str, dataset: str, inputs: dict, losses: dict, train: dict, model: dict) -> "Study":
        """The study that the parameters of the notebook describe."""
        backbone, folders = inputs["backbone"], Folders.of(profile, dataset)
        missing = json.loads((folders.described / "data.json").read_text())["missing"]
        corpus = PreparedCorpus.open(
            folders.corpus, inputs["clip"], backbone, inputs["words"], losses["captions_per_video"]
        )
        settings = TrainSettings(**(train | {"epochs": losses["epochs"], "keep_epochs": True}), backbone=backbone)
        chosen = {name: losses[name] for name in ("seeds", "variants", "batch_sizes", "sweep_epochs")}
        scratch = UNFINISHED / "losses" / profile / dataset
        return cls(dataset, missing, corpus, model, settings, **chosen, scratch=scratch)

    @cached_property
    def training_texts(self) -> int:
        """Texts of one epoch."""
        return len(self.corpus.split("train"))

    def settings_of(self, condition: str) -> dict:
        """All settings of GLSCL in a condition."""
        return settings_of("glscl", self.model | changes(condition))

    def scope(self) -> dict:
        """What the numbers rest on."""
        test, validation, backbone = self.corpus.split("test"), self.corpus.split("val"), self.corpus.backbone
        return {
            "dataset": self.dataset,
            "texts": len(test),
            "videos": len(test.videos),
            "validation_texts": len(validation),
            "validation_videos": len(validation.videos),
            "missing": self.missing,
            "seeds": self.seeds,
            "captions_per_video": self.corpus.captions_per_video,
            "training_texts": self.training_texts,
            "epochs": self.settings.epochs,
            "steps": self.settings.epochs * (self.training_texts // self.settings.batch_size),
            "batch_size": self.settings.batch_size,
            "num_queries": self.model["num_queries"],
            "consistency_weight": self.model["consistency_weight"],
            "features": "cached features of a frozen CLIP" if backbone == "frozen" else f"CLIP {backbone}",
        }


class Trained(NamedTuple):
    """What is kept of the trained models.

    runs: ranks of the test queries, one run per trained condition and seed, at the selected epoch. followed: learning
    curve with `concept_statistics` of the validation split, a row per trained condition, seed and epoch, 0 being the
    start. sweep: see `batch_sweep`.
    """

    runs: list[Run]
    followed: pd.DataFrame
    sweep: pd.DataFrame


def train_all(study: Study) -> Trained:
    """Train and evaluate every condition and the sweep; no model is kept.

    A seed gives all conditions the same first weights, batches and learning rates.
    """
    validation, test = study.corpus.split("val"), study.corpus.split("test")
    runs, followed = [], []
    for condition in dict.fromkeys(trained_as(study.variants).values()):
        folder = study.scratch / condition
        train_seeds("glscl", study.settings_of(condition), study.corpus, study.settings, study.seeds, folder)
        for seed in study.seeds:
            model = load_run(folder / f"seed-{seed}")
            runs.append(Run(condition, "test", seed, "selected", evaluate(model, test)))
            followed.append(over_training(model, folder / f"seed-{seed}", validation).assign(condition=condition))
        shutil.rmtree(folder)
    followed.append(at_start(study, validation))
    sweep = batch_sweep(study, validation)
    shutil.rmtree(study.scratch)
    return Trained(runs, pd.concat(followed, ignore_index=True), sweep)


def concept_statistics(model, split: Split) -> dict[str, float]:
    """`glscl.evaluation.concepts.diversity` of a GLSCL on a split, in evaluation mode."""
    texts, videos = encode_split(model, split)
    return diversity(texts.concepts, videos.concepts, split.video_of_text)


def over_training(model, folder: Path, split: Split) -> pd.DataFrame:
    """Learning curve of one run with `concept_statistics` on a split after every epoch, one row per epoch.

    folder: a `seed-<seed>` that `glscl.training.runs.train_seeds` kept with `keep_epochs`. model: loaded from it; it
    ends with the weights of the last epoch.
    """
    curve, found = pd.read_csv(folder / "curve.csv"), []
    for epoch in curve["epoch"]:
        model.load_state_dict(model.state_dict() | load_file(folder / f"after-{epoch:04d}.safetensors"))
        found.append(concept_statistics(model, split))
    return pd.concat([curve, pd.DataFrame(found)], axis=1)


def at_start(study: Study, split: Split) -> pd.DataFrame:
    """`concept_statistics` of the weights that training starts from, a row per trained condition and seed, epoch 0."""
    corpus, found = study.corpus, []
    conditions = list(dict.fromkeys(trained_as(study.variants).values()))
    for variant, seed in product(study.variants, study.seeds):
        torch.manual_seed(seed)
        backbone = load_backbone(corpus.clip, corpus.backbone, corpus.processor)
        shape = {"words": corpus.processor.words, "frames": split.frames}
        model = GLSCL.from_clip(backbone, **study.settings_of(f"{variant}/full"), **shape)
        row = {"seed": seed, "epoch": 0, "step": 0, **concept_statistics(model, split)}
        found += [row | {"condition": name} for name in conditions if name.startswith(f"{variant}/")]
    return pd.DataFrame(found)


def batch_sweep(study: Study, split: Split) -> pd.DataFrame:
    """Cosine of matching concepts on a split after training with batches of each size, one row per run, one seed.

    The full model of each variant, and as a reference the first variant without inter-consistency.
    Columns: name (the variant, or the ablation), batch_size, steps, target (missing without the loss), found,
    wrong_pair (the cosine for wrong pairs).
    """
    rows, seed = [], study.seeds[0]
    conditions = [*(f"{variant}/full" for variant in study.variants), f"{study.variants[0]}/no inter-consistency"]
    for condition, size in product(conditions, study.batch_sizes):
        epochs, folder = study.sweep_epochs * size // min(study.batch_sizes), study.scratch / condition
        settings = replace(study.settings, batch_size=size, epochs=epochs, keep_epochs=False)
        curve, _ = train_seeds("glscl", study.settings_of(condition), study.corpus, settings, [seed], folder)
        found = concept_statistics(load_run(folder / f"seed-{seed}", "last"), split)
        shutil.rmtree(folder)
        variant, _, ablation = condition.partition("/")
        full = ablation == "full"
        row = {"name": variant if full else ablation, "batch_size": size, "steps": int(curve["step"].max())}
        row["target"] = target_cosine(variant, study.model["num_queries"], size) if full else None
        rows.append(row | {"found": found["matched"], "wrong_pair": found["wrong_pair"]})
    return pd.DataFrame(rows).astype({"target": float})


def mean_curves(followed: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of `Trained.followed`: a row per condition and epoch, by epoch."""
    curves = followed.groupby(["condition", "epoch", "step"], sort=False, as_index=False)
    return curves.mean(numeric_only=True).drop(columns="seed").sort_values("epoch", kind="stable")


def _hits(runs: list[Run], condition: str, direction: str = "t2v", k: int = 1) -> np.ndarray:
    """100 where a query finds its item among the first k, else 0: (seeds, queries)."""
    return np.stack([100.0 * (run.queries[direction]["rank"] < k) for run in runs if run.name == condition])


def retrieval_effects(runs: list[Run], variants: list[str]) -> dict[str, dict]:
    """Full minus ablated in points of text-to-video R@1, seed by seed and query by query, of every ablated condition.

    Returns {condition: {"difference", "low", "high", "p", "detectable", "seeds", "crossed_low", "crossed_high",
    "seeds_low", "seeds_high", "p_holm"}}: `paired_difference`, `crossed_interval`, `seed_interval`, and p after Holm's
    correction for all conditions.
    """
    found, group = {}, runs[0].queries["t2v"]["group"]
    for condition, (full, ablated) in compared_with(variants).items():
        one, other = _hits(runs, full), _hits(runs, ablated)
        effect = paired_difference(one, other, group)
        effect["crossed_low"], effect["crossed_high"] = crossed_interval(one - other, group)
        effect["seeds_low"], effect["seeds_high"] = seed_interval(effect["seeds"])
        found[condition] = effect
    for effect, p in zip(found.values(), holm([effect["p"] for effect in found.values()]), strict=True):
        effect["p_holm"] = p
    return found


def effects_elsewhere(runs: list[Run], variants: list[str]) -> dict[str, dict]:
    """`paired_difference`, full minus ablated, in both directions and at all depths, uncorrected.

    Returns {"t2v R@5": {condition: ...}, ...}.
    """
    return {
        f"{direction} R@{k}": {
            condition: paired_difference(
                _hits(runs, full, direction, k),
                _hits(runs, ablated, direction, k),
                runs[0].queries[direction]["group"],
            )
            for condition, (full, ablated) in compared_with(variants).items()
        }
        for direction, k in product(DIRECTIONS, DEPTHS)
    }


def significant(effects: dict[str, dict]) -> list[str]:
    """Conditions whose effect stays below 0.05 after Holm's correction and excludes zero for new queries and seeds."""
    return [
        condition
        for condition, effect in effects.items()
        if effect["p_holm"] < LEVEL and effect["crossed_low"] * effect["crossed_high"] > 0
    ]


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


def target_cosine(variant: str, concepts: int, pairs: int) -> float:
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


def results_of(study: Study, trained: Trained) -> dict:
    """Every deterministic number of the study, as losses.json keeps it, with `answer` and `details`."""
    scope, runs, curves = study.scope(), trained.runs, mean_curves(trained.followed)
    last = trained.followed[trained.followed["epoch"] == scope["epochs"]]
    full = curves[curves["condition"].str.endswith("/full") & (curves["epoch"] > 0)]
    effects = retrieval_effects(runs, study.variants)
    released = trained.sweep[trained.sweep["name"] == "released"].set_index("batch_size")
    found = {
        "scope": scope,
        "rows": {
            condition: {
                direction: {f"R@{k}": round(_hits(runs, run, direction, k).mean(), 4) for k in DEPTHS}
                for direction in DIRECTIONS
            }
            for condition, run in trained_as(study.variants).items()
        },
        "coincide": {condition: run for condition, run in trained_as(study.variants).items() if condition != run},
        "effects": effects,
        "effects_elsewhere": effects_elsewhere(runs, study.variants),
        "clear": significant(effects),
        "concepts": {
            condition: rows[["epoch", "step", *STATISTICS]].to_dict("records")
            for condition, rows in curves.groupby("condition", sort=False)
            if not condition.endswith(NO_LOCAL)
        },
        "concept_effects": concept_effects(
            last.loc[~last["condition"].str.endswith(NO_LOCAL), ["condition", "seed", *COMPARED]]
        ),
        "terms": {
            condition: rows.set_index("epoch")[TERMS].to_dict("index")
            for condition, rows in full.groupby("condition", sort=False)
        },
        "batch_sizes": released[["target", "found"]].to_dict("index"),
        "batch_sweep": trained.sweep.astype(object).where(trained.sweep.notna(), None).to_dict("records"),
    }
    return found | {"answer": answer(found), "details": details(found)}


def _change(results: dict, ablation: str) -> str:
    """The effects of one ablation in all variants, and whether they are significant, as part of a sentence."""
    found = {n.partition("/")[0]: e for n, e in results["effects"].items() if n.endswith(f"/{ablation}")}
    # Adding 0.0 turns -0.0, as a small loss is rounded to, into 0.0.
    points = [[round(effect[part], 1) + 0.0 for part in ("difference", "low", "high")] for effect in found.values()]
    values = [f"{describe(*three)} ({variant})" for variant, three in zip(found, points, strict=True)]
    values[0] = values[0].replace(" (", " points (")
    clear = [variant for variant in found if f"{variant}/{ablation}" in results["clear"]]
    verdict = "significant" if clear else "not significant"
    if clear and len(clear) < len(found):
        verdict += f" for {' and '.join(clear)}"
    return f"{' and '.join(values)}, {verdict}"


def answer(results: dict) -> str:
    """What the two auxiliary losses together do to retrieval, in one sentence.

    results: as `results_of` makes them, of which it reads `scope`, `effects` and `clear`.
    """
    pairs = [effect for name, effect in results["effects"].items() if name.endswith(f"/{NO_LOSS}")]
    detectable = max(effect["detectable"] for effect in pairs)
    return (
        f"On {results['scope']['dataset']}, both auxiliary losses change R@1 by {_change(results, NO_LOSS)}; "
        f"minimum detectable effect {detectable:.1f}."
    )


def details(results: dict) -> list[str]:
    """What else was found, sentence by sentence: the local interaction, other significant effects, the target cosine.

    results: as `answer` takes them, and `batch_sizes`.
    """
    scope, targets, clear = results["scope"], results["batch_sizes"], results["clear"]
    sentences = [
        f"{len(clear)} of {len(results['effects'])} effects are significant after Holm's correction, for new queries "
        "and new seeds."
    ]
    for ablation, part in PARTS.items():
        if ablation == NO_LOCAL or any(condition.endswith(f"/{ablation}") for condition in clear):
            sentences.append(f"{part} changes R@1 by {_change(results, ablation)}.")
    if targets:
        small, large = min(targets), max(targets)
        sentences.append(
            f"The released target cosine is {targets[small]['target']:.2f} in batches of {small} and "
            f"{targets[large]['target']:.2f} in batches of {large}; training reached {targets[small]['found']:.2f} and "
            f"{targets[large]['found']:.2f}."
        )
    sentences.append(
        f"R@1 is text to video, of {scope['texts']:,} test texts; {len(scope['seeds'])} seeds, {scope['steps']} "
        f"training steps of {scope['batch_size']} pairs; intervals are for new queries."
    )
    return sentences


def captions(scope: dict) -> tuple[str, str, str]:
    """What was measured on the test split, on the validation split, and there by the sweep over batch sizes."""
    steps = f"{scope['steps']} steps of {scope['batch_size']} pairs"
    validation = f"{scope['validation_texts']:,} validation texts, {scope['validation_videos']:,} videos"
    return (
        f"{scope['texts']:,} test texts, {scope['videos']:,} videos; seeds {scope['seeds']}; {steps}",
        f"{validation}; seeds {scope['seeds']}; {steps}",
        f"{validation}; seed {scope['seeds'][0]}",
    )


def conditions_table(variants: list[str]) -> pd.DataFrame:
    """The settings that make each ablation, and how often it is trained."""
    return pd.DataFrame(
        {
            "ablation": ablation,
            "changed": ", ".join(f"{name} {value}" for name, value in changed.items()) or "nothing",
            "trained": "once for all variants" if ablation == NO_LOCAL else f"as {' and as '.join(variants)}",
        }
        for ablation, changed in ABLATIONS.items()
    )


def recall_table(runs: list[Run], direction: str) -> pd.DataFrame:
    """Recalls of every trained condition in one direction, percent: means over seeds, 95 % intervals over queries."""
    rows, group = [], runs[0].queries[direction]["group"]
    for condition in dict.fromkeys(run.name for run in runs):
        hits = {k: _hits(runs, condition, direction, k) for k in DEPTHS}
        cells = {f"R@{k}": describe(found.mean(), *bootstrap(found, group)) for k, found in hits.items()}
        spread = hits[1].mean(1)
        over_seeds = f"sd {spread.std(ddof=1):.1f}, n = {len(spread)}"
        rows.append({"condition": condition} | cells | {"R@1 over seeds": over_seeds})
    return pd.DataFrame(rows)


def effect_rows(results: dict) -> pd.DataFrame:
    """The effects with their intervals, one row per ablated condition, for the figure."""
    rows = pd.DataFrame([{"condition": name} | effect for name, effect in results["effects"].items()])
    return split_names(rows)


def effects_table(results: dict) -> pd.DataFrame:
    """The effects in points with intervals, p-values and the minimum detectable effect."""
    return pd.DataFrame(
        {
            "without": name,
            "full minus it": describe(e["difference"], e["low"], e["high"]),
            "new queries and seeds": f"{e['crossed_low']:.1f} to {e['crossed_high']:.1f}",
            "p": f"{e['p']:.3f}",
            "p, Holm": f"{e['p_holm']:.3f}",
            "detectable": f"{e['detectable']:.1f}",
        }
        for name, e in results["effects"].items()
    )


def elsewhere_table(results: dict) -> pd.DataFrame:
    """The effects at other depths and in the other direction, in points."""
    cells = {
        name: [describe(e["difference"], e["low"], e["high"]) for e in column.values()]
        for name, column in results["effects_elsewhere"].items()
    }
    return pd.DataFrame({"without": list(results["effects"])} | cells)


def terms_table(results: dict) -> pd.DataFrame:
    """Loss terms of the full models in the first and the last epoch, means over batches and seeds."""
    rows = []
    for condition, epochs in results["terms"].items():
        for epoch in dict.fromkeys((min(epochs), max(epochs))):
            terms = {name.removeprefix("loss_").replace("_", "-"): f"{epochs[epoch][name]:.2g}" for name in TERMS}
            rows.append({"condition": condition, "epoch": epoch} | terms)
    return pd.DataFrame(rows)


def concept_rows(results: dict) -> pd.DataFrame:
    """Statistics of the concepts, one row per condition that trains them and epoch, for the figure."""
    return split_names(
        pd.DataFrame([{"condition": name} | row for name, rows in results["concepts"].items() for row in rows])
    )


def concepts_table(results: dict) -> pd.DataFrame:
    """Statistics of the concepts after the last epoch, means over seeds."""
    return pd.DataFrame(
        {"condition": name} | {shown: f"{rows[-1][statistic]:.3f}" for statistic, shown in COMPARED.items()}
        for name, rows in results["concepts"].items()
    )


def concept_effects_table(results: dict) -> pd.DataFrame:
    """What a part does to those statistics, with 95 % intervals for new seeds."""
    return pd.DataFrame(
        {"without": name}
        | {COMPARED[s]: "{difference:+.3f} [{low:.3f}, {high:.3f}]".format(**gap) for s, gap in gaps.items()}
        for name, gaps in results["concept_effects"].items()
    )


def term_lines(results: dict, points: int = 401) -> pd.DataFrame:
    """The consistency term in closed form for cosines from 0 to 1: columns name, cosine, value."""
    scope, cosines, lines = results["scope"], np.linspace(0, 1, points), []
    variants = dict.fromkeys(name.partition("/")[0] for name in results["rows"])
    sizes = dict.fromkeys(row["batch_size"] for row in results["batch_sweep"])
    for variant, size in product(variants, sizes):
        values = consistency_term(cosines, variant, scope["num_queries"], size, scope["consistency_weight"])
        name = f"{variant}, batches of {size}" if variant == "released" else f"{variant}, any batch"
        # A logarithmic axis cannot show the zero at the target.
        lines.append(pd.DataFrame({"name": name, "cosine": cosines, "value": values.clip(1e-6)}))
    return pd.concat(lines).drop_duplicates(["name", "cosine"])


def batch_table(results: dict) -> pd.DataFrame:
    """Target cosine and what was found after training, for each batch size; the target is missing without the loss."""
    return pd.DataFrame(
        {
            "trained as": row["name"],
            "pairs in a batch": row["batch_size"],
            "steps": row["steps"],
            "target": None if row["target"] is None else f"{row['target']:.3f}",
            "found": f"{row['found']:.3f}",
            "found, wrong pairs": f"{row['wrong_pair']:.3f}",
        }
        for row in results["batch_sweep"]
    )
