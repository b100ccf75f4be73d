"""Clocks and memory: the time of a query against a gallery, what lies beyond a limit, and the peak of memory."""

import ctypes
import gc
import math
import re
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median

import psutil
import torch
from torch import nn

from glscl.base import MatchingHead, take
from glscl.model import GLSCLHead, local_similarity
from glscl.rivals.mean_pooling import MeanPooling
from glscl.rivals.x_pool import XPoolHead
from glscl.scoring import similarity_matrix, top_k
from glscl.study.counting import clip_inputs, embedding_bytes, random_features
from glscl.study.released_computation import pooled_similarity, released_glscl, released_x_pool, weighting_net

ITEMS = 8  # texts and videos that are encoded, and repeated where more are needed
BEST = 10  # videos that a query asks for
BATCH, BATCH_GALLERY = 64, 10_000  # queries at once, videos
RELEASED, EXACT = 16, 256  # texts and videos of a block, as GLSCL's release computes and as we do
FREE_SHARE = 0.6  # of the free memory that a gallery may take


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


def timed(call: Callable[[], object]) -> dict[str, float]:
    """Seconds of one call, warmed up and repeated, see `summarised`."""
    return summarised(alternate({"": call})[""])


def summarised(seconds: list[float], times: float = 1.0) -> dict[str, float]:
    """Median of repeats as `seconds`, `low` and `high`, all times `times`, and the number of `repeats`."""
    found = {"seconds": median(seconds), "low": min(seconds), "high": max(seconds)}
    return {name: times * value for name, value in found.items()} | {"repeats": len(seconds)}


def extrapolate(seconds: float, measured: int, gallery: int) -> float:
    """Seconds against `gallery` videos, in proportion to `seconds` against `measured`: every video costs the same."""
    return seconds * gallery / measured


def memory_for_gallery(limit: float) -> float:
    """Bytes that a gallery may take: `limit`, or `FREE_SHARE` of what is free on the device where that is less."""
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
    return min(limit, FREE_SHARE * free)


def repeated(embeddings, items: int):
    """Embeddings of `items` items: those given over and over, each in memory of its own."""
    index = torch.arange(items, device=embeddings[0].device) % len(embeddings[0])
    return take(embeddings, index)


def query_times(
    head: MatchingHead, texts, gallery: Callable[[int], tuple], sizes: list[int], memory: float, limit: float
) -> list[dict]:
    """Time of one search, the best videos of a gallery for each text, for every size of gallery in rising order.

    texts: embeddings of the queries. gallery: makes the embeddings of that many videos. memory: bytes that a gallery
    may take. limit: seconds that a search may take. What lies beyond either is extrapolated from the largest gallery
    that was measured; the smallest is always measured.
    Returns rows of gallery, seconds, low, high and repeats, 0 where extrapolated.
    """
    fitting = memory_for_gallery(memory) / embedding_bytes(gallery(1))  # videos
    rows, largest = [], None
    for size in sizes:
        seconds = extrapolate(largest["seconds"], largest["gallery"], size) if largest else 0.0
        if largest and (size > fitting or seconds > limit):
            rows.append({"gallery": size, "seconds": seconds, "low": seconds, "high": seconds, "repeats": 0})
        else:
            part = gallery(size)
            largest = {"gallery": size} | timed(lambda part=part: search(head, texts, part))
            rows.append(largest)
    return rows


def search(head: MatchingHead, texts, videos) -> None:
    """Find the `BEST` videos of each text."""
    top_k(head, texts, videos, min(BEST, len(videos[0])))


def side_by_side(one: MatchingHead, other: MatchingHead, size: int, enough: float) -> dict[str, float]:
    """How many times as long a query takes with `one` as with `other` against `size` videos, in turns.

    enough: seconds, as `alternate`. Returns the median of the rounds' ratios as `ratio`, their `low` and `high`, and
    the size as `gallery`.
    """

    def query(head: MatchingHead) -> Callable[[], None]:
        texts, videos = random_embeddings(head)
        text, part = take(texts, slice(1)), repeated(videos, size)
        return lambda: search(head, text, part)

    calls = {"one": query(one), "other": query(other)}
    found = alternate(calls, enough=enough)
    ratios = [a / b for a, b in zip(found["one"], found["other"], strict=True)]
    return {"ratio": median(ratios), "low": min(ratios), "high": max(ratios), "gallery": size}


@torch.inference_mode()
def random_embeddings(head: MatchingHead):
    """Embeddings of `ITEMS` random texts and videos; moves the head to the device."""
    sentence, words, word_mask, frames, frame_mask = (part.to(device()) for part in random_features(head.config, ITEMS))
    head.to(device())
    return head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask)


def measure(head: MatchingHead, sizes: list[int], memory: float, limit: float) -> dict:
    """How long a head takes, on the device; arguments as `query_times`.

    Returns encode_text and encode_video, `timed` for one item; queries, `query_times` of one text; batch, the seconds
    of `BATCH` texts against `BATCH_GALLERY` videos, the gallery that was measured, and whether the texts went together
    or, where even the smallest gallery was too large for that, one by one; peak_memory of the search that was measured.
    """
    texts, videos = random_embeddings(head)
    sentence, words, word_mask, frames, frame_mask = (part.to(device()) for part in random_features(head.config, 1))
    one, many = take(texts, slice(1)), repeated(texts, BATCH)
    gallery = cache(lambda size: repeated(videos, size))
    queries = query_times(head, one, gallery, sizes, memory, limit)
    small = [row for row in queries if row["gallery"] <= BATCH_GALLERY] or queries[:1]
    together = BATCH * small[0]["seconds"] <= limit
    if together:
        small = query_times(head, many, gallery, [row["gallery"] for row in small], memory, limit)
    measured = [row for row in small if row["repeats"]][-1]
    seconds = extrapolate(measured["seconds"], measured["gallery"], BATCH_GALLERY)
    part, searched = gallery(measured["gallery"]), many if together else one
    return {
        "encode_text": timed(lambda: head.encode_texts(sentence, words, word_mask)),
        "encode_video": timed(lambda: head.encode_videos(frames, frame_mask)),
        "queries": queries,
        "batch": {
            "seconds": seconds if together else BATCH * seconds,
            "measured": measured["gallery"],
            "together": together,
        },
        "peak_memory": peak_memory(lambda: search(head, searched, part)),
    }


@torch.inference_mode()
def whole_matrix(glscl: GLSCLHead, x_pool: XPoolHead, items: int, blocks: int) -> dict[str, dict]:
    """Seconds for the similarities of `items` texts with as many videos, in the ways of the releases and in ours.

    Sampled, `blocks` of each that take turns, and scaled: the releases' ways in blocks of 16 x 16, ours of 256 x 256.
    What is computed once per item is left out, GLSCL's concepts excepted, which its release decodes in every block.
    Returns for every way `summarised` seconds; among them are `decoding`, the seconds of decoding every item once.
    """
    pairs, net = items**2, weighting_net(glscl.config.width).to(device())
    sentence, words, word_mask, frames, frame_mask = (x.to(device()) for x in random_features(glscl.config, RELEASED))
    encoded = {head: [repeated(side, EXACT) for side in random_embeddings(head)] for head in (glscl, x_pool)}
    concepts = [take(side, slice(RELEASED)).concepts for side in encoded[glscl]]
    query, keys = (side[:RELEASED] for side in (encoded[x_pool][0].query, encoded[x_pool][1].keys))

    def released(net: nn.Module) -> None:
        released_glscl(glscl, net, (sentence, words, word_mask), (frames, frame_mask))

    def decoded_once() -> None:
        pooled_similarity(sentence, frames, frame_mask, glscl.config.temperature, nn.Identity())
        local_similarity(*concepts)

    def decode() -> None:
        glscl.local(words, word_mask)
        glscl.local(frames, frame_mask)

    calls = {
        "glscl, as released": lambda: released(net),
        "glscl, without the unused net": lambda: released(nn.Identity()),
        "glscl, concepts decoded once": decoded_once,
        "glscl, exact": lambda: similarity_matrix(glscl, *encoded[glscl]),
        "x_pool, as released": lambda: released_x_pool(x_pool.pooling, sentence, query, keys, frames),
        "x_pool, exact": lambda: similarity_matrix(x_pool, *encoded[x_pool]),
    }
    found = alternate(calls | {"decode": decode}, rounds=blocks, enough=math.inf)
    once = summarised(found.pop("decode"), items / RELEASED)
    ways = {}
    for name, seconds in found.items():
        way = summarised(seconds, pairs / (EXACT if name.endswith("exact") else RELEASED) ** 2)
        if name in ("glscl, concepts decoded once", "glscl, exact"):
            way |= {part: way[part] + once[part] for part in ("seconds", "low", "high")} | {"decoding": once["seconds"]}
        ways[name] = way
    return ways


def clip_seconds(clip: MeanPooling, words: list[int]) -> dict[str, dict]:
    """`timed` for CLIP, on the device: one frame as `image`, one sentence of each length as `N words`."""
    clip.to(device())
    inputs = [[[part.to(device()) for part in side] for side in clip_inputs(clip, length)] for length in words]
    found = {"image": timed(lambda: clip.frame_features(*inputs[0][1]))}
    for length, (sentence, _) in zip(words, inputs, strict=True):
        found[f"{length} words"] = timed(lambda sentence=sentence: clip.text_features(*sentence))
    return found


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
