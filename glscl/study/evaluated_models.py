"""Every trained model and reference row on the test splits; each item is encoded once per model.

Heads over a frozen CLIP are evaluated side by side where there is no GPU, one thread each: their scores then do not
depend on the number of cores, and small matrices gain little from more threads.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glscl.base import RetrievalModel, load_backbone
from glscl.data.dataset import PreparedCorpus, Split
from glscl.data.frame_store import FrameStore
from glscl.encoding import encode_split, evaluate
from glscl.evaluation.baselines import bag_of_words_ridge, oracle
from glscl.evaluation.comparisons import ZERO_SHOT
from glscl.evaluation.postprocessing import as_published, post_processed
from glscl.evaluation.reranking import rerank_report
from glscl.evaluation.results import LEAK, ON_TEST, WITHOUT_BIAS, Run
from glscl.evaluation.twins import twin_accuracy
from glscl.methods import METHODS
from glscl.metrics import per_query, ranks, summarise
from glscl.rivals.cross_encoder import CrossEncoder, rerank
from glscl.rivals.t_mass import TMASS
from glscl.scoring import similarity_matrix
from glscl.training.runs import load_run

OWN = "glscl"
RIDGE = "bag-of-words ridge"
HALF = (torch.bfloat16, torch.float16)
BUILDING = threading.Lock()  # transformers replaces functions of torch while it builds a model


class Galleries(NamedTuple):
    """What models are evaluated on.

    splits: by name; those that begin with `test` are test splits, and `twin_<kind>` false texts of the test split.
    bank: training queries that post-processing looks at, None where nothing is trained. depth: videos of each text that
    the cross-encoder re-ranks, at most.
    """

    splits: dict[str, Split]
    bank: Split | None
    depth: int

    @property
    def tests(self) -> dict[str, Split]:
        """The test splits by name."""
        return {name: split for name, split in self.splits.items() if name.startswith("test")}

    @property
    def twins(self) -> dict[str, Split]:
        """False texts of the test split, by kind."""
        return {name.removeprefix("twin_"): split for name, split in self.splits.items() if name.startswith("twin_")}


@dataclass
class Evaluated:
    """What one model gave.

    runs: of the selected epoch, one per test split. epochs: of other epochs. processed: after post-processing.
    scores: {split: (texts, videos)}, where they are kept. twins: {kind: (texts,)}, whether the true text scores higher
    than its twin. half: {dtype: what half precision changes}. by_depth: of a cross-encoder, as
    `glscl.evaluation.reranking.rerank_report` gives it. logit_scale: inverse temperature of the trained model. seconds:
    measured.
    """

    runs: list[Run]
    epochs: list[Run] = field(default_factory=list)
    processed: list[Run] = field(default_factory=list)
    scores: dict[str, Tensor] = field(default_factory=dict)
    twins: dict[str, np.ndarray] = field(default_factory=dict)
    half: dict[str, dict] = field(default_factory=dict)
    by_depth: dict[int, dict] = field(default_factory=dict)
    logit_scale: float = float("nan")
    seconds: float = 0.0


def evaluate_models(
    folder: Path, corpus: PreparedCorpus, galleries: Galleries, methods: list[str], seeds: list[int], first_stage: str
) -> dict[tuple[str, int], Evaluated]:
    """Every model of `folder`/<method>/seed-<seed>, by method and seed, in the order of the methods.

    first_stage: the method whose scores the cross-encoder re-ranks; it comes first of all.
    """

    def evaluated(chosen: list[str], kept: dict[int, dict[str, Tensor]]) -> dict[tuple[str, int], Evaluated]:
        def one(job: tuple[str, int]) -> Evaluated:
            method, seed = job
            options = {"first": kept.get(seed, {})}
            if method == first_stage:
                options["keep"] = ("test",)
            if seed == seeds[0] and method in (OWN, first_stage):
                options["half"] = HALF
            return evaluate_model(folder / method / f"seed-{seed}", method, seed, galleries, **options)

        jobs = list(product(chosen, seeds))
        return dict(zip(jobs, side_by_side(one, jobs, corpus.backbone), strict=True))

    found = evaluated([method for method in methods if method == first_stage], {})
    kept = {seed: each.scores for (_, seed), each in found.items()}
    return found | evaluated([method for method in methods if method != first_stage], kept)


def side_by_side(work: Callable, jobs: list, backbone: str) -> list:
    """`work` of every job, in their order; on all cores, one thread each, for heads over a frozen CLIP without a GPU.

    An error stops the jobs that have not begun.
    """
    if backbone != "frozen" or torch.cuda.is_available():
        return [work(job) for job in jobs]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(work, jobs))
    finally:
        torch.set_num_threads(threads)


def evaluate_model(
    folder: Path,
    method: str,
    seed: int,
    galleries: Galleries,
    first: dict[str, Tensor] | None = None,
    keep: tuple[str, ...] = (),
    half: tuple[torch.dtype, ...] = (),
) -> Evaluated:
    """One model that `train_seeds` kept.

    first: {split: scores (texts, videos)} of the first stage, which the cross-encoder re-ranks. keep: splits whose
    scores are kept. half: half precisions to compare with float32.
    """
    start = time.perf_counter()
    model = _built(load_run, folder)
    if isinstance(model, CrossEncoder):
        found = _re_ranked(model, method, seed, galleries, first or {})
    else:
        found = _scored(model, method, seed, galleries, keep, half)
        found.epochs = _other_epochs(folder, found.runs, galleries.splits["test"])
    found.logit_scale = model.head.logit_scale.exp().item()
    found.seconds = time.perf_counter() - start
    return found


def _built(build: Callable, *given) -> RetrievalModel:
    with BUILDING:
        return build(*given)


def _queries(scores, split: Split) -> dict[str, dict[str, np.ndarray]]:
    return per_query(np.asarray(scores), split.video_of_text.numpy())


def _scored(
    model: RetrievalModel,
    method: str,
    seed: int,
    galleries: Galleries,
    keep: tuple[str, ...],
    half: tuple[torch.dtype, ...],
) -> Evaluated:
    """A head that scores every pair."""
    tests, test = galleries.tests, galleries.splits["test"]
    embedded = {name: encode_split(model, split) for name, split in tests.items()}
    scores = {name: similarity_matrix(model, *embeddings) for name, embeddings in embedded.items()}
    bank = encode_split(model, galleries.bank)
    runs = []
    for name, split in tests.items():
        queries = as_published(model, scores[name], embedded[name], bank, split.video_of_text.numpy())
        runs.append(Run(method, name, seed, "selected", queries))

    own, right = _of_test(runs), test.video_of_text.numpy()
    processed = post_processed(model, scores["test"], embedded["test"], bank, right)
    if model.config.contrastive == "ncl":
        processed[WITHOUT_BIAS] = _queries(scores["test"], test)
    if isinstance(model, TMASS):
        processed |= _other_noise(model, embedded["test"], test)

    full, changes = ranks(scores["test"].numpy(), right), {}
    for dtype in half:
        found = ranks(similarity_matrix(model, *embedded["test"], dtype=dtype).numpy(), right)
        points = 100 * float((found < 1).mean() - (full < 1).mean())
        changed = {"changed": 100 * float((found != full).mean()), "largest": float(abs(found - full).max())}
        changes[str(dtype)] = changed | {"R@1": points}
    for name in keep:
        if name not in scores:
            scores[name] = similarity_matrix(model, *encode_split(model, galleries.splits[name]))
    return Evaluated(
        runs,
        processed=[own._replace(processing=name, queries=queries) for name, queries in processed.items()],
        scores={name: scores[name] for name in keep},
        twins=twin_accuracy(model, test, galleries.twins, embedded["test"]),
        half=changes,
    )


def _other_noise(model: TMASS, embedded: tuple, test: Split) -> dict[str, dict]:
    """T-MASS with other noise in evaluation than the setting says, and its released evaluation, which leaks."""
    config, found = model.config, {}
    given = config.noise
    for noise in [kind for kind in ("bank", "fresh", "none") if kind != given]:
        config.noise = noise
        found[f"noise: {noise}"] = _queries(similarity_matrix(model, *embedded), test)
    config.noise = given
    if len(test) == len(test.videos):
        config.released_evaluation = True
        found[LEAK] = _queries(similarity_matrix(model, *embedded), test)
        config.released_evaluation = False
    return found


def _of_test(runs: list[Run]) -> Run:
    return next(run for run in runs if run.split == "test")


def _other_epochs(folder: Path, runs: list[Run], test: Split) -> list[Run]:
    """The last epoch and the best on the test split, where training kept the weights of every epoch."""
    kept, own = sorted(folder.glob("after-*.safetensors")), _of_test(runs)
    if not kept:
        return []
    curve = pd.read_csv(folder / "curve.csv")
    selected = f"after-{curve.loc[curve['val_r1'].idxmax(), 'step']:06d}"  # evaluated already
    found = [
        own.queries if file.stem == selected else evaluate(_built(load_run, folder, file.stem), test) for file in kept
    ]
    best = max(found, key=lambda queries: summarise(queries["t2v"])["R@1"])
    return [own._replace(selection="last", queries=found[-1]), own._replace(selection=ON_TEST, queries=best)]


def _re_ranked(
    model: CrossEncoder, method: str, seed: int, galleries: Galleries, first: dict[str, Tensor]
) -> Evaluated:
    """The cross-encoder, which re-ranks the best videos of the first stage; of the test splits only the main one."""
    test = galleries.splits["test"]
    embedded = encode_split(model, test)
    scores = rerank(model.head, *embedded, first["test"], min(galleries.depth, len(test.videos)))
    return Evaluated(
        [Run(method, "test", seed, "selected", _queries(scores, test))],
        twins=twin_accuracy(model, test, galleries.twins, embedded),
        by_depth=rerank_report(model.head, *embedded, first["test"], test.video_of_text),
    )


def reference_runs(corpus: PreparedCorpus, galleries: Galleries, source: Path | None) -> list[Run]:
    """Runs of the reference rows on every test split: zero-shot CLIP, bag-of-words ridge regression, the oracle.

    source: folder of the corpus, None for one without videos. A row is absent where it needs what is not there: a
    pre-trained CLIP, a training split, videos, a table of the drawn events.
    """
    tests = galleries.tests
    found: dict[str, dict[str, dict]] = {name: {} for name in tests}
    if corpus.backbone != "scratch":
        clip = load_backbone(corpus.clip, corpus.backbone, corpus.processor)
        model = METHODS["mean_pooling"].from_clip(clip, temporal_layers=0)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        for name, split in tests.items():
            found[name][ZERO_SHOT] = evaluate(model, split)
    if source and "train" in galleries.splits:
        store = FrameStore(corpus.folder / "frames")
        scores = bag_of_words_ridge(galleries.splits["train"], list(tests.values()), store)
        for (name, split), of_split in zip(tests.items(), scores, strict=True):
            found[name][RIDGE] = _queries(of_split, split)
    for name, split in tests.items():
        if source and (known := oracle(source, split)) is not None:
            found[name]["oracle"] = _queries(known, split)
    return [Run(row, name, None, "none", queries) for name, of in found.items() for row, queries in of.items()]
