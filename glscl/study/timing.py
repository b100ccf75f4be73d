"""Clocks and memory: calls that are repeated, galleries of any size, searches of one, and the peak of memory."""

import ctypes
import gc
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

from glscl.base import MatchingHead, take
from glscl.model import GLSCLHead, local_similarity
from glscl.rivals.x_pool import XPoolHead
from glscl.scoring import similarity_matrix, top_k
from glscl.study.counting import random_features
from glscl.study.released_computation import pooled_similarity, released_glscl, released_x_pool, weighting_net

ITEMS = 8  # texts and videos that are encoded, and repeated where more are needed
BEST = 10  # videos that a query asks for
RELEASED, EXACT = 16, 256  # texts and videos of a block, as GLSCL's release computes and as we do


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clock() -> float:
    """Seconds of a steady clock, once every kernel that was started has ended."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def alternate(calls: dict[str, Callable[[], object]], rounds: int = 30, enough: float = 0.25) -> dict[str, list[float]]:
    """Seconds of calls that take turns, so that what disturbs one round disturbs all: {name: [seconds of a round]}.

    One round to warm up; then `rounds`, or fewer: 3 or more that took `enough` seconds, or any that took 4 times that.
    Where the first round takes 4 times `enough`, it is the only one: what takes so long needs no warming up.
    """
    found = {name: [] for name in calls}
    start = clock()
    for done in range(rounds + 1):
        for name, call in calls.items():
            begin = clock()
            call()
            found[name].append(clock() - begin)
        passed = clock() - start
        if passed > 4 * enough or (passed > enough and done >= 3):
            break
        if done == 0:
            found, start = {name: [] for name in calls}, clock()
    return found


def timed(call: Callable[[], object], enough: float = 0.25) -> float:
    """Seconds of one call: the median of repeats after a warm-up, see `alternate`."""
    return median(alternate({"": call}, enough=enough)[""])


def rising(call: Callable[[int], Callable[[], object]], sizes: list[int], patience: float) -> dict[int, float]:
    """Seconds of `call(size)` by size, in rising order, the smallest always.

    It ends before the first size whose call, in proportion to the last, would take longer than `patience` seconds.
    """
    found: dict[int, float] = {}
    for size in sizes:
        last = max(found, default=None)
        if last and extrapolate(found[last], last, size) > patience:
            break
        found[size] = timed(call(size), patience / 4)
    return found


def extrapolate(seconds, measured: int, gallery: int):
    """Seconds against `gallery` videos, in proportion to `seconds` against `measured`: every video costs the same."""
    return seconds * gallery / measured


def repeated(embeddings, items: int):
    """Embeddings of `items` items: those given over and over, each in memory of its own."""
    index = torch.arange(items, device=embeddings[0].device) % len(embeddings[0])
    return take(embeddings, index)


def search(head: MatchingHead, texts, videos, best: int = BEST) -> None:
    """Find the `best` videos of each text, or all where there are fewer."""
    top_k(head, texts, videos, min(best, len(videos[0])))


@torch.inference_mode()
def random_embeddings(head: MatchingHead):
    """Embeddings of `ITEMS` random texts and videos; moves the head to the device."""
    sentence, words, word_mask, frames, frame_mask = (part.to(device()) for part in random_features(head.config, ITEMS))
    head.to(device())
    return head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask)


@torch.inference_mode()
def whole_matrix(glscl: GLSCLHead, x_pool: XPoolHead, items: int, blocks: int) -> dict[str, float]:
    """Seconds for the similarities of `items` texts with as many videos, by way: those of the releases and ours.

    Sampled, the median of `blocks` of each that take turns, and scaled: the releases' ways in blocks of 16 x 16, ours
    of 256 x 256. What is computed once per item is left out, GLSCL's concepts excepted, which its release decodes in
    every block: `glscl, decoding every item once` is that part of the ways that decode once.
    """
    net = weighting_net(glscl.config.width).to(device())
    sentence, words, word_mask, frames, frame_mask = (x.to(device()) for x in random_features(glscl.config, RELEASED))
    encoded = {head: [repeated(side, EXACT) for side in random_embeddings(head)] for head in (glscl, x_pool)}
    concepts = [take(side, slice(RELEASED)).concepts for side in encoded[glscl]]
    query, keys = (side[:RELEASED] for side in (encoded[x_pool][0].query, encoded[x_pool][1].keys))

    def released(net: nn.Module) -> None:
        released_glscl(glscl, net, (sentence, words, word_mask), (frames, frame_mask))

    def matched() -> None:
        pooled_similarity(sentence, frames, frame_mask, glscl.config.temperature, nn.Identity())
        local_similarity(*concepts)

    def decode() -> None:
        glscl.local(words, word_mask)
        glscl.local(frames, frame_mask)

    in_blocks, whole = (items / RELEASED) ** 2, (items / EXACT) ** 2
    calls = {
        "glscl, as released": (lambda: released(net), in_blocks),
        "glscl, without the unused net": (lambda: released(nn.Identity()), in_blocks),
        "glscl, concepts decoded once": (matched, in_blocks),
        "glscl, exact": (lambda: similarity_matrix(glscl, *encoded[glscl]), whole),
        "glscl, decoding every item once": (decode, items / RELEASED),
        "x_pool, as released": (lambda: released_x_pool(x_pool.pooling, sentence, query, keys, frames), in_blocks),
        "x_pool, exact": (lambda: similarity_matrix(x_pool, *encoded[x_pool]), whole),
    }
    found = alternate({way: call for way, (call, _) in calls.items()}, rounds=blocks, enough=math.inf)
    seconds = {way: median(found[way]) * times for way, (_, times) in calls.items()}
    for way in ("glscl, concepts decoded once", "glscl, exact"):
        seconds[way] += seconds["glscl, decoding every item once"]
    return seconds


def peak_memory(call: Callable[[], object]) -> float | None:
    """Bytes that call() takes at its peak beyond what was there before.

    On a GPU what torch allocates there. On Linux the resident set of this process, whose highest value the kernel
    keeps and resets on demand; so libraries' buffers count too. None elsewhere.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return float(torch.cuda.max_memory_allocated() - before)
    if sys.platform != "linux":
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else freed memory would be taken again unseen
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    call()
    return float(_status("VmHWM") - before)


def _status(name: str) -> int:
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
