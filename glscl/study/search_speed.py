"""How long a sentence takes among many made-up videos: exactly, by float32, and by candidates, and what these miss.

Each made-up video is a mixture of two embedded ones, frame by frame and concept by concept, with a share of its own, so
that all differ and all lie where a trained head puts videos. Shards are those of an index: float16 embeddings, codes
mapped from the disk.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch
from torch.nn.functional import normalize

from glscl import approximate_search, exact_search
from glscl.base import gram, take
from glscl.first_stage import video_vectors
from glscl.model import GLSCLHead, Texts, Videos
from glscl.scoring import top_k
from glscl.video_index import ROWS, Shard, halved

K = 10
CANDIDATES = (50, 100, 200, 500, 1000)
WHOLE = 100_000  # videos that brute force reads as float32; of more it reads so many, and its time is scaled


def mixed(videos: Videos, count: int, generator: torch.Generator) -> Videos:
    """So many videos, each a mixture of two."""
    one, other = (take(videos, torch.randint(len(videos.mask), (count,), generator=generator)) for _ in range(2))
    share = torch.rand(count, 1, 1, generator=generator)
    frames = other.frames.lerp(one.frames, share)
    return Videos(frames, one.mask, gram(frames), normalize(other.concepts.lerp(one.concepts, share), dim=-1))


class Gallery:
    """So many made-up videos of a GLSCL head in shards, with codes and, where it is wanted, a graph, in a folder.

    made: seconds that codes, vectors and graph took.
    """

    def __init__(self, head: GLSCLHead, source: Videos, count: int, folder: Path, graph: bool):
        self.head, self.count, self.shards, self.parts, self.bytes_of_graph = head, count, [], {}, 0
        self.made, generator = {"codes": 0.0}, torch.Generator().manual_seed(0)
        if graph:
            self.made |= {"vectors": 0.0, "graph": 0.0}
        for number, start in enumerate(range(0, count, ROWS)):
            videos = mixed(source, min(ROWS, count - start), generator)
            shard, file = Shard(number, {}, halved(videos._asdict())), folder / f"{number}.safetensors"
            self._timed("codes", lambda videos=videos, file=file: exact_search.encode(head, videos).save(file))
            if graph:
                vectors = self._timed("vectors", lambda videos=videos: video_vectors(head, videos))
                if number == 0:
                    self.graph = approximate_search.Graph.trained(
                        vectors.flatten(0, 1)[: approximate_search.TRAINED_ON]
                    )
                self._timed("graph", partial(self.graph.add, number, vectors))
            self.shards.append(shard)
            rows, codes = np.arange(len(videos.mask)), exact_search.Codes.load(file)
            self.parts[number] = exact_search.Part(rows, partial(self.videos, number), codes)
        if graph:
            self.graph.save(folder / "graph.faiss")
            self.bytes_of_graph = (folder / "graph.faiss").stat().st_size

    def _timed(self, what: str, call: Callable):
        start = time.perf_counter()
        found = call()
        self.made[what] += time.perf_counter() - start
        return found

    @property
    def codes(self) -> list[torch.Tensor]:
        """All integers of the codes."""
        rows = [rows for part in self.parts.values() for rows in (part.codes.frames, part.codes.concepts)]
        return [each.integers for each in rows]

    def videos(self, number: int, rows: torch.Tensor) -> Videos:
        """Rows of a shard."""
        return Videos(**self.shards[number].embeddings(rows))

    def by_codes(self, text: Texts) -> exact_search.Hits:
        """The K best."""
        return exact_search.best(self.head, text, list(self.parts.values()), K)[0]

    def by_candidates(self, candidates: int, text: Texts) -> exact_search.Hits:
        """The K best of so many candidates."""
        return approximate_search.best(self.head, text, self.parts, self.graph, K, candidates, some=False)[0]

    def by_float32(self, plain: list[Videos], text: Texts) -> set[tuple[int, int]]:
        """The K best of all scores, of the first shards as float32."""
        found = []
        for number, part in enumerate(plain):
            scores, rows = top_k(self.head, text, part, min(K, len(part.mask)))
            found += [(-score, (number, row)) for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True)]
        return {place for _, place in sorted(found)[:K]}


def read_once(parts: list[torch.Tensor], text: Texts) -> None:
    """Read all codes from memory, on all threads."""
    for part in parts:
        part.view(torch.int64).sum()


@torch.inference_mode()
def measure(head: GLSCLHead, texts: Texts, source: Videos, count: int, candidates: Sequence[int] = CANDIDATES) -> dict:
    """Search `count` videos made of `source` for each of `texts`, by every way in turn.

    candidates: how many are scored; without any no graph is made.
    Returns medians over the texts, of the seconds that passed (`seconds`) and of those that all threads computed
    (`cpu_seconds`), which other work on the machine changes less; what exact search had to score, and of each number of
    candidates the recall of the K best. `same`: whether brute force found the same, where it read all.
    """
    process = psutil.Process()
    before = process.memory_info().rss
    with TemporaryDirectory() as folder:
        gallery = Gallery(head, source, count, Path(folder), graph=bool(candidates))
        held = process.memory_info().rss - before
        read = [n for n in gallery.parts if n * ROWS < WHOLE]
        plain = [gallery.videos(n, torch.arange(len(gallery.parts[n].rows))) for n in read]
        scale = count / sum(len(part.mask) for part in plain)
        ways = {
            "codes": gallery.by_codes,
            "float32": partial(gallery.by_float32, plain),
            "reading": partial(read_once, gallery.codes),
        }
        ways |= {str(n): partial(gallery.by_candidates, n) for n in candidates}
        seconds, cpu, found = ({name: [] for name in ways} for _ in range(3))
        for text in torch.arange(len(texts.sentence)):
            asked = take(texts, text[None])
            for name, way in ways.items():
                start, computed = time.perf_counter(), time.process_time()
                found[name].append(way(asked))
                factor = scale if name == "float32" else 1
                seconds[name].append(factor * (time.perf_counter() - start))
                cpu[name].append(factor * (time.process_time() - computed))
    exact = [set(hits.scores) for hits in found["codes"]]
    kept = {str(n): [set(hits.scores) for hits in found[str(n)]] for n in candidates}
    recall = {
        n: float(np.mean([len(one & best) / K for one, best in zip(each, exact, strict=True)]))
        for n, each in kept.items()
    }
    return {
        "videos": count,
        "width": head.config.width,
        "queries": len(exact),
        "same": scale > 1 or found["float32"] == exact,
        "float32_scaled_by": scale,
        "seconds": {name: median(each) for name, each in seconds.items()},
        "cpu_seconds": {name: median(each) for name, each in cpu.items()},
        "seconds_to_make": gallery.made,
        "bytes_of_codes_per_video": sum(part.nbytes for part in gallery.codes) / count,
        "bytes_of_graph_per_video": gallery.bytes_of_graph / count,
        "bytes_of_embeddings_per_video": sum(t.nbytes for s in gallery.shards for t in s.tensors.values()) / count,
        "memory_gb": held / 1e9,
        "scored_share": median(hits.scored for hits in found["codes"]) / count,
        "recall_at_10": recall,
    }
