"""Which temperature of the frame softmax is best on the validation split of `scenes`? One seed, test split not opened.

Run by `make temperature` after `make reproduce`; writes benchmarks/temperature.csv.
"""

import tempfile
from pathlib import Path

import pandas as pd

from glscl.data.dataset import PreparedCorpus
from glscl.files import write_table
from glscl.study.parameters import named_sections, resolve
from glscl.study.project import Folders
from glscl.training.runs import train_seeds
from glscl.training.trainer import TrainSettings

if __name__ == "__main__":
    params = resolve(named_sections(Path(), ["train", "model", "datasets.scenes.inputs", "datasets.scenes.train"]))
    given = params["inputs"]
    corpus = PreparedCorpus.open(Folders.of("full", "scenes").corpus, given["clip"], given["backbone"], given["words"])
    settings = TrainSettings(**params["train"], backbone=given["backbone"])
    rows = []
    for temperature in (1.0, 3.0, 10.0, 30.0):
        model = params["model"] | {"temperature": temperature}
        with tempfile.TemporaryDirectory(dir="work") as folder:
            curve, _ = train_seeds("glscl", model, corpus, settings, [0], Path(folder) / "runs")
        rows.append({"temperature": temperature, "seed": 0, "val_r1": curve["val_r1"].max()})
        print(rows[-1], flush=True)
    write_table("benchmarks/temperature.csv", pd.DataFrame(rows).round(3))
