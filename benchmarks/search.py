"""One sentence against many videos: exact search by codes, by float32, and by the candidates of a first stage.

    python -m benchmarks.search [--videos 1000000] [--run work/quick/facets/train/glscl/seed-0]

The embeddings are those of a trained head on the videos of `facets`; each video of the gallery is the mean of two of
them, frame by frame and concept by concept, so that all differ. Queries are the captions of the test split. The shards
are those of an index: float16 embeddings and int8 codes, the codes mapped from the disk into memory that is warm.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import psutil
import torch
from torch.nn.functional import normalize

from glscl import approximate_search, exact_search
from glscl.base import gram, joined, take
from glscl.data.dataset import PreparedCorpus
from glscl.encoding import encode_split
from glscl.files import write_json
from glscl.first_stage import video_vectors
from glscl.model import Videos
from glscl.scoring import top_k
from glscl.study.project import hardware
from glscl.training.runs import load_run
from glscl.video_index import ROWS, Shard, halved

K = 10
CANDIDATES = (50, 100, 200, 500, 1000)
WHOLE = 200_000  # videos that brute force reads as float32; of more it reads a tenth, and its time is scaled


def mixed(videos: Videos, count: int, generator: torch.Generator) -> Videos:
    """So many videos, each the mean of two."""
    one, other = (take(videos, torch.randint(len(videos.mask), (count,), generator=generator)) for _ in range(2))
    frames = (one.frames + other.frames) / 2
    return Videos(frames, one.mask, gram(frames), normalize(one.concepts + other.concepts, dim=-1))


def read_once(parts: list[np.ndarray]) -> float:
    """Seconds to read all codes from memory, on all threads."""
    words = [torch.from_numpy(part).view(torch.int64) for part in parts]
    start = time.perf_counter()
    for part in words:
        part.sum()
    return time.perf_counter() - start


class Gallery:
    """So many videos in shards, with codes and a graph. made: seconds that these took."""

    def __init__(self, head, source: Videos, count: int, folder: Path):
        self.head, self.count, self.shards, self.parts, self.bytes_of_codes = head, count, [], {}, []
        self.made, generator = (
            {"codes": 0.0, "vectors": 0.0, "graph": 0.0},
            torch.Generator().manual_seed(0),
        )
        for number, start in enumerate(range(0, count, ROWS)):
            videos = mixed(source, min(ROWS, count - start), generator)
            shard, file = Shard(number, {}, halved(videos._asdict())), folder / f"{number}.faiss"
            self._timed("codes", lambda videos=videos, file=file: exact_search.encode(head, videos).save(file))
            codes = exact_search.Codes.load(file)
            self.bytes_of_codes.append(
                faiss.vector_to_array(codes.index.codes)[: len(codes.owner) * codes.index.d // 8 * 8]
            )
            vectors = self._timed("vectors", lambda videos=videos: video_vectors(head, videos))
            if number == 0:
                self.graph = approximate_search.Graph.trained(vectors.flatten(0, 1)[: approximate_search.TRAINED_ON])
            self._timed("graph", partial(self.graph.add, number, vectors))
            self.shards.append(shard)
            self.parts[number] = exact_search.Part(np.arange(len(videos.mask)), partial(self.videos, number), codes)
        self.graph.save(folder / "graph.faiss")
        self.bytes_of_graph = (folder / "graph.faiss").stat().st_size

    def _timed(self, what: str, call):
        start = time.perf_counter()
        found = call()
        self.made[what] += time.perf_counter() - start
        return found

    def videos(self, number: int, rows: torch.Tensor) -> Videos:
        """Rows of a shard."""
        return Videos(**self.shards[number].embeddings(rows))

    def by_codes(self, text) -> tuple[list[int], float]:
        """The K best, and the share of videos that were scored."""
        (hits,) = exact_search.best(self.head, text, list(self.parts.values()), K)
        return [number * ROWS + row for (number, row), _ in hits.sorted()], hits.scored / self.count

    def by_candidates(self, text, candidates: int) -> list[int]:
        """The K best of so many candidates."""
        (hits,) = approximate_search.best(self.head, text, self.parts, self.graph, K, candidates, some=False)
        return [number * ROWS + row for (number, row), _ in hits.sorted()]

    def by_float32(self, text, plain: list[Videos]) -> list[int]:
        """The K best of all scores."""
        found = []
        for number, part in enumerate(plain):
            scores, rows = top_k(self.head, text, part, K)
            found += zip((-scores[0]).tolist(), (number * ROWS + rows[0]).tolist(), strict=True)
        return [row for _, row in sorted(found)[:K]]


@torch.inference_mode()
def measure(run: Path, corpus: PreparedCorpus, count: int, queries: int, folder: Path) -> dict:
    """Seconds of a query by each way, medians; what exact search had to score, and the recall of candidates."""
    model = load_run(run)
    (texts, test), (_, train) = (encode_split(model, corpus.split(name)) for name in ("test", "train"))
    before = psutil.Process().memory_info().rss
    gallery = Gallery(model.head, joined([test, train]), count, folder)
    held = psutil.Process().memory_info().rss - before
    sampled = range(0, len(gallery.shards), 10 if count > WHOLE else 1)
    plain = [gallery.videos(n, torch.arange(len(gallery.parts[n].rows))) for n in sampled]
    scale = count / sum(len(part.mask) for part in plain)
    times: dict[str, list[float]] = {name: [] for name in ("codes", "float32", "reading", *map(str, CANDIDATES))}
    scored, same, kept = [], True, {n: [] for n in CANDIDATES}

    def timed(name: str, call, factor: float = 1.0):
        start = time.perf_counter()
        found = call()
        times[name].append(factor * (time.perf_counter() - start))
        return found

    for text in torch.arange(len(texts.sentence))[:: max(1, len(texts.sentence) // queries)][:queries]:
        asked = take(texts, text[None])
        exact, share = timed("codes", partial(gallery.by_codes, asked))
        scored.append(share)
        brute = timed("float32", partial(gallery.by_float32, asked, plain), scale)
        same &= scale > 1 or set(brute) == set(exact)
        times["reading"].append(read_once(gallery.bytes_of_codes))
        for n in CANDIDATES:
            kept[n].append(len(set(timed(str(n), partial(gallery.by_candidates, asked, n))) & set(exact)) / K)
    seconds = {name: median(each) for name, each in times.items()}
    return {
        "videos": count,
        "width": model.head.config.width,
        "queries": len(scored),
        "same": bool(same),
        "float32_scaled_by": scale,
        "seconds": {name: seconds[name] for name in ("codes", "float32", "reading")},
        "seconds_to_make": gallery.made,
        "bytes_of_codes_per_video": sum(part.nbytes for part in gallery.bytes_of_codes) / count,
        "bytes_of_graph_per_video": gallery.bytes_of_graph / count,
        "bytes_of_embeddings_per_video": sum(t.nbytes for s in gallery.shards for t in s.tensors.values()) / count,
        "memory_gb": held / 1e9,
        "scored_share": median(scored),
        "codes_over_reading": seconds["codes"] / seconds["reading"],
        "float32_over_codes": seconds["float32"] / seconds["codes"],
        "candidates": {
            str(n): {"recall_at_10": float(np.mean(kept[n])), "seconds": seconds[str(n)]} for n in CANDIDATES
        },
    }


def main() -> None:
    """Measure, print, and write results/measured/search.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--run", type=Path, default=Path("work/quick/facets/train/glscl/seed-0"))
    parser.add_argument("--corpus", type=Path, default=Path("work/corpora/facets"))
    parser.add_argument("--output", type=Path, default=Path("results/measured/search.json"))
    given = parser.parse_args()
    corpus = PreparedCorpus.open(given.corpus, str(given.corpus / "clip"), "frozen", 9)
    with TemporaryDirectory() as folder:
        found = measure(given.run, corpus, given.videos, given.queries, Path(folder))
    for name, value in found.items():
        print(f"{name}: {value}")
    write_json(given.output, found | {"hardware": hardware()}, digits=3)


if __name__ == "__main__":
    main()
