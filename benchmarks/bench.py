"""Are exact scoring and the frame store as cheap as promised? Ratios within one run, each beside its target.

Run by `make bench`; writes results/measured/bench.json, on a GPU results/measured/gpu/bench.json with the name of the
device, and exits with 1 if a target is missed. `--small` shrinks every size and holds nothing to its target: it shows
only that everything runs.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from benchmarks import search as search_by
from benchmarks.frames import decoding_memory, parallel_decoding, reading
from glscl.base import MatchingHead, gram, take
from glscl.files import write_json
from glscl.model import Videos
from glscl.scoring import encode_all, similarity_matrix, top_k
from glscl.study.counting import build, random_features
from glscl.study.project import hardware
from glscl.study.released_computation import released_glscl, released_x_pool, weighting_net
from glscl.study.search_speed import measure
from glscl.study.timing import alternate, device, peak_memory, repeated, search

BLOCK = 16  # items on each side of a block of the released evaluation
DEVICE = device()


def compared(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float, float]:
    """How many times as long `one` takes as `other`, called in turn; and the median seconds of each."""
    seconds = alternate({"one": one, "other": other}, enough=20.0)
    ratios = [a / b for a, b in zip(seconds["one"], seconds["other"], strict=True)]
    return median(ratios), median(seconds["one"]), median(seconds["other"])


def encoded(head: MatchingHead, features: tuple) -> tuple:
    """Embeddings of every text and video of `random_features`, each encoded once, on the device."""
    sentence, words, word_mask, frames, frame_mask = features
    texts = encode_all(
        lambda i: head.encode_texts(*(part[i].to(DEVICE) for part in (sentence, words, word_mask))), len(words)
    )
    videos = encode_all(lambda i: head.encode_videos(frames[i].to(DEVICE), frame_mask[i].to(DEVICE)), len(frames))
    return take(texts, slice(None), DEVICE), take(videos, slice(None), DEVICE)


@torch.inference_mode()
def exact_scores(items: int, width: int) -> dict:
    """Exact GLSCL scores against the two plain matrix products inside them."""
    head = build("glscl", 12, 32, width).to(DEVICE)
    texts, videos = encoded(head, random_features(head.config, items))

    def products():
        texts.sentence @ videos.frames.flatten(0, 1).T
        texts.concepts.flatten(1) @ videos.concepts.flatten(1).T

    found, exact, plain = compared(lambda: similarity_matrix(head, texts, videos), products)
    operations = 2 * items**2 * width * (12 + 8)
    return {
        "value": found,
        "seconds": exact,
        "seconds_of_products": plain,
        "gflops_of_products": operations / plain / 1e9,
    }


@torch.inference_mode()
def whole_evaluation(items: int, width: int, sampled: int) -> dict:
    """Concepts of every item and all scores against the released blocks, which encode their items again."""
    head, net = build("glscl", 12, 32, width).to(DEVICE), weighting_net(width).to(DEVICE)
    features = [part.to(DEVICE) for part in random_features(head.config, items)]
    sentence, words, word_mask, frames, frame_mask = features
    starts = torch.randint(0, items - BLOCK + 1, (sampled, 2), generator=torch.Generator().manual_seed(0)).tolist()

    def blocks():
        for text, video in starts:
            rows, columns = slice(text, text + BLOCK), slice(video, video + BLOCK)
            sides = (sentence[rows], words[rows], word_mask[rows]), (frames[columns], frame_mask[columns])
            released_glscl(head, net, *sides)

    def here():
        similarity_matrix(head, *encoded(head, features))

    all_blocks = (-(-items // BLOCK)) ** 2
    found, released, once = compared(blocks, here)
    scaled = all_blocks / sampled
    return {"value": found * scaled, "seconds": once, "seconds_of_blocks": released * scaled, "blocks_timed": sampled}


@torch.inference_mode()
def x_pool(items: int, width: int) -> dict:
    """X-Pool through its rearrangement against two linear layers on every pair, from cached embeddings."""
    head = build("x_pool", 12, 32, width, temporal_layers=0).to(DEVICE)
    texts, videos = encoded(head, random_features(head.config, items))
    part = max(1, items // 10)

    def plain():
        for columns in torch.arange(part).split(50):
            released_x_pool(head.pooling, texts.sentence, texts.query, videos.keys[columns], videos.values[columns])

    found, slow, fast = compared(plain, lambda: similarity_matrix(head, texts, videos))
    return {"value": found * items / part, "seconds": fast, "seconds_of_plain": slow * items / part}


def extra_memory(items: int, frames: int, queries: int, width: int) -> dict:
    """Memory that scoring takes beyond the embeddings and the scores it returns, MB, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench", "--memory", *map(str, (items, frames, queries, width))]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"value": float(found.stdout), "scores_mb": 4 * items**2 / 1e6}


@torch.inference_mode()
def print_extra_memory(items: int, frames: int, queries: int, width: int) -> None:
    head = build("glscl", frames, 32, width, num_queries=queries).to(DEVICE)
    concepts = torch.nn.functional.normalize(torch.rand(items, queries, width, device=DEVICE), dim=-1)
    vectors = torch.rand(items, frames, width, device=DEVICE) / width**0.5
    videos = Videos(vectors, torch.ones(items, frames, device=DEVICE), gram(vectors), concepts)
    texts = head.embedding_types[0](torch.rand(items, width, device=DEVICE), concepts)
    similarity_matrix(head, take(texts, slice(300)), take(videos, slice(300)))  # the libraries' own buffers
    scores = 4 * items**2 / 1e6
    print(peak_memory(lambda: similarity_matrix(head, texts, videos)) / 1e6 - (scores if DEVICE.type == "cpu" else 0))


@torch.inference_mode()
def one_query(galleries: list[int], width: int) -> dict:
    """Growth of the time of one query from one gallery to the next, over the growth of the gallery; the worst step.

    The galleries take turns, and the shortest time of each counts, which was disturbed least.
    """
    head = build("glscl", 12, 32, width).to(DEVICE)
    texts, videos = encoded(head, random_features(head.config, 16))
    text, largest = take(texts, slice(1)), repeated(videos, galleries[-1])
    calls = {size: partial(search, head, text, take(largest, slice(size))) for size in galleries}
    shortest = {size: min(seconds) for size, seconds in alternate(calls, enough=10.0).items()}
    steps = [(shortest[b] / shortest[a]) / (b / a) for a, b in pairwise(galleries)]
    return {"value": max(steps), "milliseconds": {str(size): 1000 * time for size, time in shortest.items()}}


@torch.inference_mode()
def best_k(items: int, width: int, k: int = 10) -> dict:
    """Largest difference of `top_k` from a sort of the matrix, over the heads that score all pairs in a second."""
    worst = 0.0
    for name in ("glscl", "mean_pooling", "x_pool"):
        head = build(name, 12, 32, width).to(DEVICE)
        texts, videos = encoded(head, random_features(head.config, items))
        matrix = similarity_matrix(head, texts, videos)
        scores, indices = top_k(head, texts, videos, k)
        worst = max(worst, (matrix.sort(1, descending=True).values[:, :k] - scores).abs().max().item())
        worst = max(worst, (matrix.gather(1, indices) - scores).abs().max().item())
    return {"value": worst}


@torch.inference_mode()
def exact_search(videos: int, source: tuple | None = None) -> dict:
    """Seconds of processors of float32 over those of exact search by codes, among made-up videos.

    source: head, texts and videos; those of the GLSCL that the quick profile trained, where absent.
    """
    found = measure(*(source or search_by.embedded()), videos, candidates=())
    cpu = found["cpu_seconds"]
    told = ("videos", "seconds", "scored_share", "same", "bytes_of_codes_per_video")
    return {"value": cpu["float32"] / cpu["codes"], "codes_over_reading": cpu["codes"] / cpu["reading"]} | {
        name: found[name] for name in told
    }


def random_source(width: int) -> tuple:
    """A random GLSCL with the embeddings of some random texts and videos."""
    head = build("glscl", 12, 32, width)
    return head, *encoded(head, random_features(head.config, 16))


def main() -> int:
    """Measure everything, print a line for each, write the file; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--small", action="store_true", help="tiny sizes, no targets, nothing written")
    parser.add_argument("--memory", nargs=4, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        print_extra_memory(*given.memory)
        return 0
    items, width, long, galleries = (
        (64, 64, 96, [100, 1000]) if given.small else (1000, 512, 4917, [1000, 10_000, 100_000])
    )
    videos, seconds = (4, 2) if given.small else (100, 30)
    checks = {
        "exact GLSCL scores / the plain products inside": ("at most", 2.5, lambda: exact_scores(items, width)),
        "released blocks / whole evaluation": (
            "at least",
            50,
            lambda: whole_evaluation(items, width, 2 if given.small else 40),
        ),
        "plain X-Pool / exact X-Pool": ("at least", 15, lambda: x_pool(items, width)),
        "extra memory, MSR-VTT's size, MB": ("at most", 300, lambda: extra_memory(items, 12, 8, width)),
        "extra memory, ActivityNet's size, MB": ("at most", 1000, lambda: extra_memory(long, 64, 12, width)),
        "growth of one query's time / growth of the gallery": ("at most", 1.1, lambda: one_query(galleries, width)),
        "top_k against a sort of the matrix": ("at most", 1e-6, lambda: best_k(items, width)),
        "one decoding process / two": ("at least", 1.7, lambda: parallel_decoding(videos, seconds)),
        "decoding a file again / reading its frames from the store": ("at least", 20, lambda: reading(seconds)),
        "memory to prepare 4 times the videos / the videos": ("at most", 1.1, lambda: decoding_memory(videos // 2, 2)),
    }
    if given.small or search_by.RUN.is_dir():
        source = random_source(width) if given.small else None
        checks["search by float32 / exact search by codes"] = (
            "at least",
            4,
            lambda: exact_search(500 if given.small else 100_000, source),
        )
    else:
        print("exact search by codes is left out: it needs a trained GLSCL, run `make reproduce` first", flush=True)
    results, missed = {}, []
    for name, (kind, target, call) in checks.items():
        found = call()
        met = found["value"] <= target if kind == "at most" else found["value"] >= target
        missed += [name] if not met else []
        results[name] = found | {"target": f"{kind} {target:g}", "met": met}
        print(f"{name}: {found['value']:.3g}, target {kind} {target:g}{'' if met else ', MISSED'}", flush=True)
    if given.small:
        return 0
    about = {
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "items": items,
        "width": width,
    }
    folder = Path("results/measured/gpu" if DEVICE.type == "cuda" else "results/measured")
    write_json(folder / "bench.json", {"about": about, "checks": results}, digits=3)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
