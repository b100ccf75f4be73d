"""From one corpus to another under one frozen CLIP: trained heads are moved, and trained a little on the target."""

import contextlib
import copy
import dataclasses
import io
import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from glscl.base import RetrievalModel, load_backbone
from glscl.config import one_of
from glscl.data.dataset import PreparedCorpus, Split
from glscl.encoding import evaluate
from glscl.evaluation.results import Run, describe
from glscl.evaluation.statistics import crossed_interval, holm, paired_difference
from glscl.methods import METHODS, settings_of
from glscl.metrics import bootstrap
from glscl.study.preparation import encode, prepare
from glscl.study.processes import one_thread_each
from glscl.study.project import Folders
from glscl.training.runs import UNFINISHED, load_run, train_seeds
from glscl.training.trainer import TrainSettings, train

SUBJECT = "glscl"
# How a text meets a video, in the words of the question; a head that is not named has neither.
KINDS = {"x_pool": "attention", "x_clip": "attention", "t_mass": "attention", "glscl": "consistency"}
STARTS = {
    "in_domain": "in-domain",
    "zero_shot": "zero-shot",
    "fine_tuned": "fine-tuned",
    "from_clip": "as few captions, from CLIP",
}
MOVED = ("zero_shot", "fine_tuned")
UNTRAINED = "untrained"  # CLIP alone, mean pooling of its frame features
EDGES = ("mean", "low", "high")


# --- the corpora and what is trained on them


class Domain(NamedTuple):
    """A prepared corpus under a frozen CLIP, and the heads that were trained on it.

    folder: as `glscl.data.dataset.PreparedCorpus.open` takes it. words: tokens per text. trained: holds the folder of
    each method, as `glscl.training.runs.train_seeds` writes it.
    """

    name: str
    folder: Path
    clip: str
    words: int
    trained: Path

    def corpus(self) -> PreparedCorpus:
        """The corpus."""
        return PreparedCorpus.open(self.folder, self.clip, "frozen", self.words)

    def settings(self, method: str) -> dict:
        """What `method` was trained with here: its head as `method`, and the dictionaries `model` and `train`.

        Raises ValueError where it was not trained.
        """
        file = self.trained / method / "settings.json"
        if not file.exists():
            raise ValueError(
                f"the heads of transfer must be trained methods, {method} is not trained on {self.name}; add it to "
                "the methods of the profile, or leave it out of transfer.heads."
            )
        return json.loads(file.read_text())


@lru_cache(maxsize=8)
def _split(domain: Domain, name: str) -> Split:
    """A split, opened once by a process that evaluates many models."""
    return domain.corpus().split(name)


class Transfer(NamedTuple):
    """One direction: heads of the source answer for the target."""

    source: Domain
    target: Domain

    @property
    def name(self) -> str:
        """As in "scenes to stories"."""
        return f"{self.source.name} to {self.target.name}"


@dataclasses.dataclass(frozen=True)
class Study:
    """What is asked: heads of `dataset` and of `target` move to the other one.

    heads: {name: (method, its settings, how it is trained on the target)}; none where there is no second corpus or
    CLIP is trained. videos, epochs: of fine-tuning, one caption per video. source: the inputs of the dataset, whose
    CLIP encodes both. preparation: what `glscl.study.preparation.prepare` takes for the target. scratch: folder of the
    target, prepared, and of its models. asked: the heads that the parameters name.
    """

    dataset: str
    target: str
    heads: dict[str, tuple[str, dict, TrainSettings]]
    seeds: list[int]
    videos: int
    epochs: int
    source: dict
    preparation: dict
    folders: Folders
    scratch: Path
    asked: list[str]

    @classmethod
    def open(
        cls,
        profile: str,
        dataset: str,
        inputs: dict,
        transfer: dict,
        target_corpus: dict,
        seeds: list[int],
        methods: dict,
        train: dict,
        model: dict,
        check: dict,
        prepare: dict,
    ) -> "Study":
        """The study that the parameters of the notebook describe."""
        target, asked = transfer["target"], transfer["heads"]
        for name in asked:
            one_of("each of transfer.heads", name, tuple(methods))
        heads = {
            name: (
                methods[name]["head"],
                settings_of(methods[name]["head"], model | target_corpus["model"] | methods[name]["model"]),
                TrainSettings(
                    **(train | target_corpus["train"] | methods[name]["train"] | {"keep_epochs": False}),
                    backbone=inputs["backbone"],
                ),
            )
            for name in asked
            if target not in (None, dataset) and inputs["backbone"] == "frozen"
        }
        same_clip = {name: inputs[name] for name in ("clip", "backbone")}
        preparation = {"corpus": target_corpus["corpus"], "inputs": target_corpus["inputs"] | same_clip}
        return cls(
            dataset,
            target,
            heads,
            seeds,
            transfer["fine_tune_videos"],
            transfer["fine_tune_epochs"],
            inputs,
            preparation | prepare | check,
            Folders.of(profile, dataset),
            UNFINISHED / "transfer" / profile / dataset,
            asked,
        )

    def domains(self) -> list[Domain]:
        """The dataset with the heads of the profile, and the target, prepared anew, with heads that are trained here.

        Training that was stopped goes on where it stopped. Raises what `glscl.study.preparation.prepare` raises, and
        ValueError where a head was not trained on the dataset.
        """
        if not self.heads:
            return []
        folder, there = self.scratch / self.target, self.preparation["inputs"]
        here = Domain(
            self.dataset, self.folders.corpus, self.source["clip"], self.source["words"], self.folders.work / "train"
        )
        for name in self.heads:
            here.settings(name)
        prepare(self.target, folder=folder, **self.preparation)
        encode(folder, there)
        target = Domain(self.target, folder, there["clip"], there["words"], self.scratch / "train")
        for name, (method, chosen, settings) in self.heads.items():
            train_seeds(method, chosen, target.corpus(), settings, self.seeds, target.trained / name)
        return [here, target]


# --- models that move


def moved(source: Path, frames: int, words: int) -> tuple[RetrievalModel, list[str]]:
    """The model that `train_seeds` kept in `source`, for items of so many frames and words; and its resized weights.

    Where the size of a weight depends on the number of frames or words, the positions that both sizes have are kept,
    and new ones are as in a head without training. All other weights are those of the source. In evaluation mode.
    """
    trained = load_run(source)
    config = copy.deepcopy(trained.config)
    config.frames, config.words = frames, words
    torch.manual_seed(0)
    model = type(trained)(config).eval().to(trained.device)
    weights, resized = model.state_dict(), []
    for name, weight in trained.state_dict().items():
        common = tuple(slice(min(sizes)) for sizes in zip(weight.shape, weights[name].shape, strict=True))
        weights[name][common] = weight[common]
        resized += [name] * (weight.shape != weights[name].shape)
    return model, resized


def fine_tune(
    model: RetrievalModel, few: Split, validation: Split, settings: TrainSettings, epochs: int, seed: int
) -> RetrievalModel:
    """The same model after a little training on the texts of `few`: the epoch with the best recall on `validation`.

    The settings are those of a training from CLIP on the same corpus; the batch holds all of `few` where that is less.
    It takes seconds, so nothing is kept for a run that is stopped.
    """
    batch = min(settings.batch_size, len(few))
    settings = dataclasses.replace(settings, epochs=epochs, batch_size=batch, keep_epochs=False)
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # a line per epoch says little
        train(model, few, validation, settings, seed, Path(folder), progress=False)
        model.load_state_dict(model.state_dict() | load_file(Path(folder) / "selected.safetensors"))
    return model.eval()


def evaluate_starts(transfer: Transfer, method: str, seed: int, videos: int, epochs: int) -> tuple[dict, list[str]]:
    """Ranks of the target's test queries under the models of `STARTS`, and the names of the resized weights.

    All models have the sizes of the target and the settings of its own training. videos: of the target's training
    split, drawn by seed, with one caption each: what two of the models are trained on for so many epochs.
    Returns {start: what `glscl.encoding.evaluate` gives}.
    """
    source, target = transfer
    run, found = f"{method}/seed-{seed}", target.settings(method)
    settings = TrainSettings(**found["train"])
    few, validation, test = _split(target, "train").sample(videos, seed), _split(target, "val"), _split(target, "test")
    ranks = {"in_domain": evaluate(load_run(target.trained / run), test)}
    model, resized = moved(source.trained / run, found["model"]["frames"], found["model"]["words"])
    ranks["zero_shot"] = evaluate(model, test)
    ranks["fine_tuned"] = evaluate(fine_tune(model, few, validation, settings, epochs, seed), test)
    clip = _clip(target)
    torch.manual_seed(seed)
    fresh = METHODS[found["method"]].from_clip(clip, **found["model"])
    ranks["from_clip"] = evaluate(fine_tune(fresh, few, validation, settings, epochs, seed), test)
    return ranks, resized


@lru_cache(maxsize=2)
def _clip(domain: Domain):
    return load_backbone(domain.clip, "frozen", None)


class Evaluated(NamedTuple):
    """What is kept of the models.

    domains: as `Study.domains` gives them. runs: a row per head, seed, transfer and start, and one per transfer for
    zero-shot CLIP. resized: {(transfer, head): names of the weights that depend on frames or words}.
    """

    domains: list[Domain]
    runs: list[Run]
    resized: dict[tuple[str, str], list[str]]


def evaluate_all(study: Study) -> Evaluated:
    """Train on the target what is missing, move every head both ways, fine-tune it, and evaluate all; no model is kept.

    As many heads at once as there are cores, each on one thread, so that no number depends on how many there are.
    """
    domains = study.domains()
    _split.cache_clear()  # of an earlier call, for whose target the same folder held other frames
    transfers = [Transfer(*pair) for pair in permutations(domains, 2)]
    jobs = [(*one, study.videos, study.epochs) for one in product(transfers, study.heads, study.seeds)]
    runs, resized = [], {}
    for (transfer, method, seed, *_), (ranks, names) in zip(jobs, one_thread_each(evaluate_starts, jobs), strict=True):
        runs += [Run(method, transfer.name, seed, start, queries) for start, queries in ranks.items()]
        resized[transfer.name, method] = names
    for transfer in transfers:
        mean_pooling = METHODS["mean_pooling"].from_clip(_clip(transfer.target), temporal_layers=0)
        queries = evaluate(mean_pooling, _split(transfer.target, "test"))
        runs.append(Run("CLIP", transfer.name, None, UNTRAINED, queries))
    return Evaluated(domains, runs, resized)


# --- results


def share_values(hits: np.ndarray, reference: np.ndarray) -> np.ndarray | None:
    """Values of each run and query whose mean is the share of `reference` that `hits` reaches, in percent.

    hits, reference: (runs, queries), what two models score on the same queries, such as 1 where a query is found. The
    share is the ratio R of their means; by Taylor linearisation (Cochran, Sampling Techniques, 1977, section 6.3) it
    varies over samples of queries as the mean of R + (hits - R reference) / mean(reference) does. So intervals and
    paired tests of means hold for shares too. None where the reference finds nothing: there is no share of it.
    """
    hits, reference = np.asarray(hits, dtype=float), np.asarray(reference, dtype=float)
    if hits.shape != reference.shape or hits.ndim != 2:
        raise ValueError(
            f"hits and reference must both be (runs, queries), got {hits.shape} and {reference.shape}; give the same "
            "queries of the same seeds."
        )
    mean = reference.mean()
    if mean == 0:
        return None
    ratio = hits.mean() / mean
    return 100 * (ratio + (hits - ratio * reference) / mean)


def estimate(values: np.ndarray, group: np.ndarray) -> dict:
    """Mean of values (runs, queries), its 95 % interval over groups of queries (queries,), and the mean of each run."""
    low, high = bootstrap(values, group)
    return {"mean": float(values.mean()), "low": low, "high": high, "seeds": values.mean(1).tolist()}


class Hits(NamedTuple):
    """Text-to-video hits at rank 1 of one transfer, 100 or 0, and the video of each query, (queries,).

    of_heads: {head: {start: (seeds, queries)}}. untrained: (1, queries), zero-shot CLIP.
    """

    of_heads: dict[str, dict[str, np.ndarray]]
    untrained: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, runs: list[Run], transfer: str) -> "Hits":
        """Those of one transfer, seeds in the order of the runs."""
        runs = [run for run in runs if run.split == transfer]
        found: dict[str, dict[str, list]] = {}
        for run in runs:
            hits = 100.0 * (run.queries["t2v"]["rank"] <= 0)
            found.setdefault(run.name, {}).setdefault(run.selection, []).append(hits)
        stacked = {name: {start: np.stack(hits) for start, hits in of.items()} for name, of in found.items()}
        return cls(stacked, stacked.pop("CLIP")[UNTRAINED], runs[0].queries["t2v"]["group"])

    def over_clip(self, head: str) -> dict[str, np.ndarray]:
        """Points over zero-shot CLIP of each start of a head: {start: (seeds, queries)}."""
        return {start: hits - self.untrained for start, hits in self.of_heads[head].items()}

    def shares(self, head: str) -> dict[str, np.ndarray]:
        """`share_values` of the in-domain recall of a head by start, and of zero-shot CLIP: (seeds, queries).

        Empty where the in-domain head finds less than zero-shot CLIP: there is nothing to retain.
        """
        starts = self.of_heads[head]
        reference = starts["in_domain"]
        if reference.mean() < self.untrained.mean():
            return {}
        untrained = np.broadcast_to(self.untrained, reference.shape)
        compared = {UNTRAINED: untrained} | {start: starts[start] for start in ("from_clip", *MOVED)}
        found = {start: share_values(hits, reference) for start, hits in compared.items()}
        return {start: values for start, values in found.items() if values is not None}


def results_of(study: Study, evaluated: Evaluated) -> dict:
    """Every number of the study, as transfer.json keeps it, with `answer` and `details`."""
    names = list(dict.fromkeys(run.split for run in evaluated.runs))
    hits = {name: Hits.of(evaluated.runs, name) for name in names}
    found = {
        "scope": _scope(study, hits),
        "transfers": {name: {head: _reached(of, head) for head in study.heads} for name, of in hits.items()},
        "untrained": {name: estimate(of.untrained, of.group) for name, of in hits.items()},
        "over_clip": {
            name: {
                head: {start: estimate(values, of.group) for start, values in of.over_clip(head).items()}
                for head in study.heads
            }
            for name, of in hits.items()
        },
        "source_adds": source_adds(hits),
        "glscl_minus": against_attention(hits, {name: method for name, (method, _, _) in study.heads.items()}),
    }
    found["negative_transfer"] = {
        name: {head: [start for start in ("in_domain", *MOVED) if over[start]["mean"] < 0] for head, over in of.items()}
        for name, of in found["over_clip"].items()
    }
    return found | {"answer": answer(found), "details": details(found)}


def _scope(study: Study, hits: dict[str, Hits]) -> dict:
    return {
        "dataset": study.dataset,
        "target": study.target,
        "seeds": study.seeds,
        "heads": study.asked,
        "backbone": study.source["backbone"],
        "split": "test",
        "texts": {name: len(of.group) for name, of in hits.items()},
        "videos": {name: len(set(of.group)) for name, of in hits.items()},
        "fine_tune_videos": study.videos,
        "fine_tune_epochs": study.epochs,
        "metric": "R@1 t2v",
    }


def _reached(hits: Hits, head: str) -> dict[str, dict]:
    reached = {start: estimate(values, hits.group) for start, values in hits.of_heads[head].items()}
    shares = {start: estimate(values, hits.group) for start, values in hits.shares(head).items()}
    return reached | {"retained": {start: {edge: of[edge] for edge in EDGES} for start, of in shares.items()}}


def _nested(tests: list[dict], keys: tuple[str, ...]) -> dict:
    """Tests by the values of these keys, level by level, with `p_holm`: Holm's correction is over all of them."""
    for test, corrected in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = corrected
    found: dict = {}
    for test in tests:
        place = found
        for key in keys[:-1]:
            place = place.setdefault(test[key], {})
        place[test[keys[-1]]] = {name: value for name, value in test.items() if name not in keys}
    return found


def source_adds(hits: dict[str, Hits]) -> dict:
    """Points of R@1 that training on the source adds: {transfer: {head: {start: `paired_difference`, `p_holm`}}}.

    The zero-shot head minus zero-shot CLIP, and the fine-tuned head minus that which saw as few captions alone.
    """
    tests = []
    for name, of in hits.items():
        for head, starts in of.of_heads.items():
            untrained = np.broadcast_to(of.untrained, starts["zero_shot"].shape)
            for start, other in {"zero_shot": untrained, "fine_tuned": starts["from_clip"]}.items():
                about = {"transfer": name, "head": head, "start": start}
                tests.append(about | paired_difference(starts[start], other, of.group))
    return _nested(tests, ("transfer", "head", "start"))


def against_attention(hits: dict[str, Hits], methods: dict[str, str]) -> dict:
    """GLSCL minus each attention-based head: {transfer: {head: {start: {"R@1" or "retained": test}}}}.

    methods: by head. A test is `paired_difference` with `p_holm`, and with `new_seeds_too`, an interval for new seeds
    and new queries, or None for a single seed. Shares are compared where both heads have one, see `Hits.shares`.
    """
    rivals = [head for head, method in methods.items() if KINDS.get(method) == "attention" and SUBJECT in methods]
    tests = []
    for (name, of), rival, start in product(hits.items(), rivals, MOVED):
        pairs = {"R@1": [of.of_heads[head][start] for head in (SUBJECT, rival)]}
        shares = [of.shares(head).get(start) for head in (SUBJECT, rival)]
        if all(share is not None for share in shares):
            pairs["retained"] = shares
        for kind, pair in pairs.items():
            crossed = crossed_interval(np.subtract(*pair), of.group) if len(pair[0]) > 1 else None
            about = {"transfer": name, "rival": rival, "start": start, "of": kind, "new_seeds_too": crossed}
            tests.append(about | paired_difference(*pair, of.group))
    return _nested(tests, ("transfer", "rival", "start", "of"))


def _gains(results: dict) -> list[tuple[str, str]]:
    """(head, transfer) of every head that finds significantly more zero-shot than zero-shot CLIP."""
    return [
        (head, transfer)
        for transfer, heads in results["source_adds"].items()
        for head, starts in heads.items()
        if starts["zero_shot"]["low"] > 0 and starts["zero_shot"]["p_holm"] < 0.05
    ]


def answer(results: dict) -> str:
    """How GLSCL carries over, and which heads gain, in one sentence.

    In points over zero-shot CLIP where a head of GLSCL, moved or in-domain, finds less than that; as a share of
    the in-domain recall otherwise. results: as `results_of` makes them.
    """
    scope, transfers = results["scope"], results["transfers"]
    if not transfers:
        return f"{scope['dataset']}: transfer needs a second corpus, a frozen CLIP and trained heads."
    gaining = list(dict.fromkeys(head for head, _ in _gains(results)))
    who = f"only {gaining[0]} gains" if len(gaining) == 1 else f"{len(gaining) or 'no'} heads gain"
    if SUBJECT not in next(iter(transfers.values())):
        return f"Zero-shot, {who} significantly over zero-shot CLIP, between {scope['dataset']} and {scope['target']}."
    negative = {name: heads[SUBJECT] for name, heads in results["negative_transfer"].items()}
    if any(set(starts) & {"in_domain", "zero_shot"} for starts in negative.values()):
        points = [f"{heads[SUBJECT]['zero_shot']['mean']:+.1f}" for heads in results["over_clip"].values()]
        reached = [f"{value} ({name})" for value, name in zip(points, transfers, strict=True)]
        below = " (negative transfer)" if any("zero_shot" in starts for starts in negative.values()) else ""
        reached[-1] = reached[-1].replace(" (", " points of R@1 (", 1)
        return f"Zero-shot, GLSCL scores {' and '.join(reached)} against zero-shot CLIP{below}; {who} significantly."
    reached = [f"{heads[SUBJECT]['retained']['zero_shot']['mean']:.0f} % ({n})" for n, heads in transfers.items()]
    return (
        f"Zero-shot, GLSCL retains {' and '.join(reached)} of its in-domain R@1; {who} significantly over zero-shot "
        "CLIP."
    )


def details(results: dict) -> list[str]:
    """What else was found, sentence by sentence: every transfer, GLSCL against attention, and what all rests on."""
    scope, transfers = results["scope"], results["transfers"]
    if not transfers:
        return [
            f"The second corpus is {scope['target']}, CLIP is {scope['backbone']}, and the heads are "
            f"{', '.join(scope['heads']) or 'none'}."
        ]
    sentences = []
    for name, heads in results["over_clip"].items():
        if SUBJECT in heads:
            points = [f"{STARTS[start]} {_edges(heads[SUBJECT][start])}" for start in ("in_domain", *MOVED)]
            sentences.append(f"{name}, points of GLSCL's R@1 over zero-shot CLIP: {', '.join(points)}.")
        negative = results["negative_transfer"][name].values()
        zero_shot, in_domain = (sum(start in starts for starts in negative) for start in ("zero_shot", "in_domain"))
        sentences.append(
            f"{name}: zero-shot, {zero_shot} of {len(heads)} heads are below zero-shot CLIP (negative transfer); "
            f"in-domain, {in_domain} of {len(heads)}."
        )
    sentences += [f"{head} gains significantly zero-shot, {transfer}." for head, transfer in _gains(results)]
    return [
        *sentences,
        *_against_attention(results),
        f"Text-to-video R@1 of {_texts(scope, ' and ')}; {len(scope['seeds'])} seeds; fine-tuning sees "
        f"{scope['fine_tune_videos']} captions, {scope['fine_tune_epochs']} times each.",
    ]


def _against_attention(results: dict) -> list[str]:
    """The differences between GLSCL and attention-based heads that are significant for new seeds too."""
    tests, said = list(tests_of(results)), []
    for transfer, rival, start, of, test in tests:
        crossed = test["new_seeds_too"]
        if test["p_holm"] < 0.05 and crossed and crossed[0] * crossed[1] > 0:
            verb = {"R@1": "finds", "retained": "retains"}[of]
            more = "more" if test["difference"] > 0 else "less"
            said.append(f"GLSCL {verb} significantly {more} than {rival}, {STARTS[start]}, {transfer}.")
    if not tests:
        return ["GLSCL meets no attention-based head."]
    return said or ["No difference between GLSCL and an attention-based head is significant."]


def _texts(scope: dict, between: str) -> str:
    return between.join(f"{count:,} test texts ({name})" for name, count in scope["texts"].items())


def _edges(found: dict) -> str:
    return describe(*(found[edge] for edge in EDGES))


def tests_of(results: dict) -> Iterator[tuple[str, str, str, str, dict]]:
    """(transfer, rival, start, of, test) of every comparison with an attention-based head."""
    for transfer, rivals in results["glscl_minus"].items():
        for rival, starts in rivals.items():
            for start, kinds in starts.items():
                for of, test in kinds.items():
                    yield transfer, rival, start, of, test


# --- figures and tables


def about(scope: dict) -> str:
    """Caption of what recalls rest on."""
    return f"{_texts(scope, ', ')}; seeds {scope['seeds']}" if scope["texts"] else f"{scope['dataset']}: no transfer"


def point_rows(results: dict) -> pd.DataFrame:
    """Points over zero-shot CLIP, a row per transfer, head and start, for the figure."""
    rows = [
        {"transfer": name, "head": head, "start": STARTS[start]} | {edge: found[edge] for edge in EDGES}
        for name, heads in results["over_clip"].items()
        for head, starts in heads.items()
        for start, found in ((start, starts[start]) for start in ("from_clip", *MOVED, "in_domain"))
    ]
    return pd.DataFrame(rows, columns=["transfer", "head", "start", *EDGES])


def retained_table(results: dict) -> pd.DataFrame:
    """What share of its in-domain R@1 each head retains, percent, or which of its starts fall below zero-shot CLIP."""
    rows = []
    for (name, heads), negative in zip(
        results["transfers"].items(), results["negative_transfer"].values(), strict=True
    ):
        for head, reached in heads.items():
            kept, below = reached["retained"], negative[head]
            row = {"transfer": name, "head": head, "in-domain R@1": _edges(reached["in_domain"])}
            row |= {STARTS[start]: _edges(kept[start]) if start in kept else None for start in MOVED}
            moved_below = [STARTS[start] for start in MOVED if start in below]
            said = [f"negative transfer, {' and '.join(moved_below)}"] * bool(moved_below)
            said += ["in-domain below zero-shot CLIP"] * ("in_domain" in below)
            rows.append(row | {"remark": "; ".join(said) or None})
    return pd.DataFrame(rows)


def recall_table(runs: list[Run], transfer: str) -> pd.DataFrame:
    """Text-to-video recalls of one transfer, percent, with 95 % intervals over queries, and the median rank from 1."""
    kinds: dict[tuple[str, str], list[dict]] = {}
    for run in runs:
        if run.split == transfer:
            kinds.setdefault((run.name, run.selection), []).append(run.queries["t2v"])
    rows = []
    for (name, start), queries in kinds.items():
        rank, group = np.stack([found["rank"] for found in queries]), queries[0]["group"]
        row = {"head": name, "start": STARTS.get(start, "zero-shot")}
        for k in (1, 5, 10):
            row[f"R@{k} \N{UPWARDS ARROW}"] = _edges(estimate(100.0 * (rank <= k - 1), group))
        rows.append(row | {"MdR \N{DOWNWARDS ARROW}": float(np.median(rank, axis=1).mean() + 1)})
    return pd.DataFrame(rows)


def _test_row(about: dict, test: dict) -> dict:
    row = about | {"points": describe(*(test[part] for part in ("difference", "low", "high")))}
    row |= {"p (Holm)": f"{test['p_holm']:.3f}", "minimum detectable effect": f"{test['detectable']:.1f}"}
    return row | {"by seed": ", ".join(f"{points:.1f}" for points in test["seeds"])}


def source_table(results: dict) -> pd.DataFrame:
    """What the source adds to each head, with corrected p and the minimum detectable effect."""
    rows = [
        _test_row({"transfer": transfer, "head": head, "start": STARTS[start]}, test)
        for transfer, heads in results["source_adds"].items()
        for head, starts in heads.items()
        for start, test in starts.items()
    ]
    return pd.DataFrame(rows)


def attention_table(results: dict) -> pd.DataFrame:
    """GLSCL minus each attention-based head, with corrected p and an interval for new seeds and new queries."""
    rows = []
    for transfer, rival, start, of, test in tests_of(results):
        row = _test_row({"transfer": transfer, "head": rival, "start": STARTS[start], "of": of}, test)
        crossed = test["new_seeds_too"]
        rows.append(row | {"new seeds too": "[{:.1f}, {:.1f}]".format(*crossed) if crossed else None})
    return pd.DataFrame(rows)


def corpora_table(domains: list[Domain]) -> pd.DataFrame:
    """Videos, captions, frames and tokens of the corpora; `cut` is the share of texts longer than a head sees."""
    rows = []
    for domain in domains:
        corpus = domain.corpus()
        training, test = corpus.split("train"), corpus.split("test")
        tokens = np.array([len(ids) for ids in corpus.processor.tokenizer(corpus.captions["text"].tolist()).input_ids])
        row = {"corpus": domain.name, "train videos": len(training.videos)}
        row |= {"captions each": len(training) / len(training.videos), "test videos": len(test.videos)}
        row |= {"frames": test.frames, "tokens allowed": domain.words, "median": float(np.median(tokens))}
        rows.append(row | {"cut, %": 100 * float(np.mean(tokens > domain.words))})
    return pd.DataFrame(rows)


def resized_table(resized: dict[tuple[str, str], list[str]]) -> pd.DataFrame:
    """Weights of each head whose size depends on frames or words, by name."""
    rows = [
        {"transfer": transfer, "head": head, "resized": len(names), "which": ", ".join(names) or "none"}
        for (transfer, head), names in resized.items()
    ]
    return pd.DataFrame(rows)
