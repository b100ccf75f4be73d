"""One sentence against many videos: exact search by codes, by float32, and by the candidates of a first stage.

    python -m benchmarks.search [--videos 1000000] [--candidates 500 1000] [--run work/quick/facets/train/glscl/seed-0]

The embeddings are those of a trained head on the videos of `facets`, from which `glscl.study.search_speed` makes as
many as are wanted. Queries are captions of the test split.
"""

import argparse
from pathlib import Path

import torch

from glscl.base import joined, take
from glscl.data.dataset import PreparedCorpus
from glscl.encoding import encode_split
from glscl.files import write_json
from glscl.study.project import hardware
from glscl.study.search_speed import CANDIDATES, measure
from glscl.training.runs import load_run

RUN, CORPUS = Path("work/quick/facets/train/glscl/seed-0"), Path("work/corpora/facets")
QUERIES = 20


def embedded(run: Path = RUN, folder: Path = CORPUS, queries: int = QUERIES) -> tuple:
    """A trained head, some texts of the test split, and the videos of test and train."""
    corpus, model = PreparedCorpus.open(folder, str(folder / "clip"), "frozen", 9), load_run(run)
    (texts, test), (_, train) = (encode_split(model, corpus.split(name)) for name in ("test", "train"))
    asked = torch.linspace(0, len(texts.sentence) - 1, queries).long()
    return model.head, take(texts, asked), joined([test, train])


def main() -> None:
    """Measure, print, and write results/measured/search.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument(
        "--candidates", type=int, nargs="*", default=CANDIDATES, help="none: no graph, which takes long"
    )
    parser.add_argument("--run", type=Path, default=RUN)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--output", type=Path, default=Path("results/measured/search.json"))
    given = parser.parse_args()
    source = embedded(given.run, given.corpus, given.queries)
    found = measure(*source, given.videos, given.candidates)
    for name, value in found.items():
        print(f"{name}: {value}")
    write_json(given.output, found | {"hardware": hardware()}, digits=4)


if __name__ == "__main__":
    main()
