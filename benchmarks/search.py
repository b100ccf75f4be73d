"""One sentence against a million videos: exact search by codes, brute force in float32, and the memory in between.

python -m benchmarks.search [--videos 1000000] [--run work/quick/facets/train/glscl/seed-0]

The embeddings are those of a trained GLSCL on the videos of `facets`; each video of the gallery is the mean of two of
them, frame by frame and concept by concept, so that all differ. Queries are the captions of the test split. The shards
are those of an index: float16 embeddings and int8 codes, the codes mapped from the disk into memory that is warm.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import torch
from torch.nn.functional import normalize

from glscl import exact_search
from glscl.base import gram, joined, take
from glscl.data.dataset import PreparedCorpus
from glscl.encoding import encode_split
from glscl.files import write_json
from glscl.model import Videos
from glscl.scoring import top_k
from glscl.study.project import hardware
from glscl.training.runs import load_run
from glscl.video_index import ROWS, Shard, halved

K = 10


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


@torch.inference_mode()
def measure(run: Path, corpus: PreparedCorpus, count: int, queries: int, folder: Path) -> dict:
    """Seconds of a query by each way, what exact search had to score, and whether both found the same."""
    model = load_run(run)
    head, generator = model.head, torch.Generator().manual_seed(0)
    (texts, test), (_, train) = (encode_split(model, corpus.split(name)) for name in ("test", "train"))
    source = joined([test, train])
    parts, plain, code_bytes = [], [], []
    for number, start in enumerate(range(0, count, ROWS)):
        rows, file = torch.arange(min(ROWS, count - start)), folder / f"{number}.faiss"
        shard = Shard(number, {}, halved(mixed(source, len(rows), generator)._asdict()))
        plain.append(Videos(**shard.embeddings(rows)))
        exact_search.encode(head, plain[-1]).save(file)
        codes = exact_search.Codes.load(file)
        parts.append(exact_search.Part(rows.numpy(), lambda some, shard=shard: Videos(**shard.embeddings(some)), codes))
        code_bytes.append(faiss.vector_to_array(codes.index.codes)[: len(codes.owner) * codes.index.d // 8 * 8])
    times: dict[str, list[float]] = {"codes": [], "float32": [], "reading": []}
    scored, same = [], True
    for text in torch.arange(len(texts.sentence))[:: max(1, len(texts.sentence) // queries)][:queries]:
        asked = take(texts, text[None])
        start = time.perf_counter()
        (hits,) = exact_search.best(head, asked, parts, K)
        times["codes"].append(time.perf_counter() - start)
        scored.append(hits.scored / count)
        start = time.perf_counter()
        found = sorted((hit for part in plain for hit in top_k(head, asked, part, K)[0][0].tolist()), reverse=True)[:K]
        times["float32"].append(time.perf_counter() - start)
        same &= np.allclose([score for _, score in hits.sorted()], found, atol=1e-5)
        times["reading"].append(read_once(code_bytes))
    seconds = {name: median(each) for name, each in times.items()}
    return {
        "videos": count,
        "width": head.config.width,
        "queries": len(scored),
        "same": bool(same),
        "seconds": seconds,
        "bytes_of_codes_per_video": sum(part.nbytes for part in code_bytes) / count,
        "scored_share": median(scored),
        "codes_over_reading": seconds["codes"] / seconds["reading"],
        "float32_over_codes": seconds["float32"] / seconds["codes"],
    }


def main() -> None:
    """Measure, print, and write results/measured/search.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--run", type=Path, default=Path("work/quick/facets/train/glscl/seed-0"))
    parser.add_argument("--corpus", type=Path, default=Path("work/corpora/facets"))
    given = parser.parse_args()
    corpus = PreparedCorpus.open(given.corpus, str(given.corpus / "clip"), "frozen", 9)
    with TemporaryDirectory() as folder:
        found = measure(given.run, corpus, given.videos, given.queries, Path(folder))
    for name, value in found.items():
        print(f"{name}: {value}")
    write_json("results/measured/search.json", found | {"hardware": hardware()}, digits=3)


if __name__ == "__main__":
    main()
