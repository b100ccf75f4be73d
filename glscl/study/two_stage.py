"""Two-stage search: mean pooling chooses a few videos of a gallery, and a head orders those alone.

What it keeps of the head's own search follows from the scores of trained models, the same on every machine; what it
saves is a time, see `glscl.study.restarts`.
"""

import json
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from glscl.data.dataset import PreparedCorpus, Split
from glscl.encoding import encode_split
from glscl.report.page import significant
from glscl.scoring import similarity_matrix
from glscl.study.counting import SHORT
from glscl.training.runs import load_run

PAIRWISE = "cross_encoder"  # a transformer per pair: its own best of a whole gallery is out of reach
EXACT = "exact scan"


def two_stage(first: Tensor, scores: Tensor, depth: int) -> Tensor:
    """The best video of each text (texts,) by `scores` among its `depth` best by `first`, both (texts, videos).

    Raises ValueError where the shapes differ or the depth is not from 1 to the number of videos.
    """
    if first.shape != scores.shape or not 1 <= depth <= first.shape[1]:
        raise ValueError(
            f"both stages need scores (texts, videos) and a depth from 1 to the videos, got {tuple(first.shape)}, "
            f"{tuple(scores.shape)} and {depth}; score the same items, and ask for no more than there are."
        )
    candidates = first.topk(depth).indices
    return candidates.gather(1, scores.gather(1, candidates).argmax(1, keepdim=True))[:, 0]


def kept(first: Tensor, scores: Tensor, right: Tensor, depth: int) -> dict[str, float]:
    """Percent of texts: `kept`, whose best video by `scores` two stages find too; and `r1`, who find the `right` one.

    first, scores: (texts, videos). right: (texts,), the index of the video that each text describes.
    """
    found, best = two_stage(first, scores, depth), scores.max(1).values
    same = scores.gather(1, found[:, None])[:, 0] == best
    return {"kept": 100 * same.double().mean().item(), "r1": 100 * (found == right).double().mean().item()}


def recall_kept(
    trained: Path, corpus: Path, methods: list[str], first_stage: str, seed: int, depths: list[int]
) -> dict:
    """What two-stage search keeps of each trained head's own search of the test split, text to video.

    trained: folder of `glscl.training.runs.train_seeds`'s folders, by method. corpus: of `PreparedCorpus`. methods:
    names of those folders; cross-encoders are left out. first_stage: the method that chooses. Returns `answer`, a
    sentence; `texts` and `videos`; `first_stage`, `seed` and `r1` of the first stage alone; `methods`, {method: head,
    r1 of the exact search, and `depths`, {depth: kept and r1}}, see `kept`. Without the first stage `methods` is empty.
    """
    heads = {method: _settings(trained / method)["method"] for method in methods if (trained / method).is_dir()}
    if first_stage not in heads:
        why = f"no {first_stage} was trained on {corpus.name}, which would choose the candidates"
        return {"answer": f"What two-stage search keeps is left out: {why}.", "methods": {}}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of floats depend on the number of threads
    split = _test_split(trained / first_stage, corpus, seed)
    scores = {method: _scores(trained / method, seed, split) for method, head in heads.items() if head != PAIRWISE}
    torch.set_num_threads(threads)
    first, right, videos = scores[first_stage], split.video_of_text, len(split.videos)
    depths = [depth for depth in depths if depth < videos]
    found = {
        method: {
            "head": heads[method],
            "r1": kept(of, of, right, videos)["r1"],
            "depths": {str(depth): kept(first, of, right, depth) for depth in depths},
        }
        for method, of in scores.items()
        if method != first_stage
    }
    alone = {"texts": len(split), "videos": videos, "first_stage": first_stage, "seed": seed}
    alone |= {"dataset": corpus.name, "r1": kept(first, first, right, 1)["r1"]}
    return alone | {"methods": found, "answer": _answer(alone, found)}


def _settings(run: Path) -> dict:
    return json.loads((run / "settings.json").read_text(encoding="utf-8"))


def _test_split(run: Path, corpus: Path, seed: int) -> Split:
    settings = _settings(run)
    backbone, words = settings["train"]["backbone"], settings["model"]["words"]
    return PreparedCorpus.open(corpus, str(run / f"seed-{seed}"), backbone, words).split("test")


def _scores(run: Path, seed: int, split: Split) -> Tensor:
    model = load_run(run / f"seed-{seed}")
    return similarity_matrix(model, *encode_split(model, split))


def _answer(alone: dict, found: dict[str, dict]) -> str:
    """The share that the shallowest first stage keeps, over the heads."""
    depths = sorted(int(depth) for one in found.values() for depth in one["depths"])
    if not depths:
        return "What two-stage search keeps is left out: no other head was trained, or the gallery is too small."
    depth = depths[0]
    shares = [one["depths"][str(depth)]["kept"] for one in found.values()]
    span = " to ".join(dict.fromkeys(significant(share) for share in (min(shares), max(shares))))
    return (
        f"On {alone['dataset']}, mean pooling's best {depth} of {alone['videos']:,} videos keep {span} % of the heads' "
        "own best videos."
    )


def two_stage_rows(kept: dict, measured: dict, gallery: int) -> pd.DataFrame:
    """A row per method and depth, the exact scan last: what is kept, R@1, and the seconds against `gallery` videos.

    kept: of `recall_kept`. measured: of `glscl.study.measured_costs.measure_costs`. Columns method, depth, kept, r1,
    seconds, and repeats, 0 where a part of the time is extrapolated. The encoding of the text is left out: it is the
    same for the exact scan.
    """
    choose, rows = _by_number(measured["first_stage"])[gallery], []
    for method, one in kept["methods"].items():
        times = measured["heads"][one["head"]][SHORT]
        for depth, found in sorted(_by_number(one["depths"]).items()):
            order = _by_number(times["rerank"])[depth]
            seconds = choose["seconds"] + order["seconds"]
            repeats = min(choose["repeats"], order["repeats"])
            rows.append({"method": method, "depth": str(depth), "seconds": seconds, "repeats": repeats} | found)
        whole = next(row for row in times["queries"] if row["gallery"] == gallery)
        exact = {"seconds": whole["seconds"], "repeats": whole["repeats"], "kept": 100.0, "r1": one["r1"]}
        rows.append({"method": method, "depth": EXACT} | exact)
    return pd.DataFrame(rows)


def _by_number(found: dict) -> dict[int, dict]:
    """Entries by number of videos, which JSON turns into text."""
    return {int(number): one for number, one in found.items()}


def two_stage_table(kept: dict, measured: dict, galleries: list[int]) -> pd.DataFrame:
    """What two-stage search keeps, and its milliseconds at each gallery; a star marks what is extrapolated."""
    by_gallery = {gallery: two_stage_rows(kept, measured, gallery) for gallery in galleries}
    names = {"method": "method", "depth": "first stage", "kept": "own best kept, %", "r1": "R@1, %"}
    table = by_gallery[galleries[0]][[*names]].rename(columns=names)
    for gallery, rows in by_gallery.items():
        stars = rows["repeats"].map(lambda repeats: "" if repeats else "*")
        table[f"ms, {gallery:,} videos"] = (1e3 * rows["seconds"]).map(significant) + stars
    return table
