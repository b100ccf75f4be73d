"""Write the bundled inputs: `python -m glscl.bundled`, some 15 minutes on two idle cores."""

import argparse
from pathlib import Path

from . import corpora, tiny_clip

parser = argparse.ArgumentParser(
    prog="python -m glscl.bundled", description="Write the bundled clips and the tiny CLIP."
)
parser.add_argument("--data", type=Path, default=Path("data"), help="folder to write to (default: data)")
parser.add_argument(
    "--workers", type=int, default=2, help="processes that draw; the bytes do not depend on it (default: 2)"
)

if __name__ == "__main__":
    arguments = parser.parse_args()
    for corpus in (corpora.SCENES, corpora.STORIES):
        corpora.build(corpus, arguments.data, arguments.workers)
        print(f"{corpus.name}: {corpus.train} train, {corpus.val} val and {corpus.test} test videos", flush=True)
    found = tiny_clip.build(arguments.data, arguments.workers)
    print("tiny-clip:", ", ".join(f"{name} {value:.1f}" for name, value in found.items()))
