"""Which temperature of the frame softmax is best on the validation split of `scenes`? One seed, test split not opened.

Run by `make temperature` after `make reproduce`; writes benchmarks/temperature.csv.
"""

import tempfile
from pathlib import Path

import pandas as pd
import yaml

from glscl.inputs import Inputs
from glscl.runs import train_seeds
from glscl.stage import write_table
from glscl.training import TrainSettings

if __name__ == "__main__":
    params = yaml.safe_load(Path("params.yaml").read_text())
    given = params["datasets"]["scenes"]["inputs"]
    work = Path("work/scenes")
    captions, inputs = pd.read_parquet(work / "captions.parquet"), Inputs.from_pretrained(given["clip"], given["words"])
    settings = TrainSettings(**params["train"], backbone=given["backbone"])
    rows = []
    for temperature in (1.0, 3.0, 10.0, 30.0):
        model = params["model"] | {"temperature": temperature}
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "runs"
            curve = train_seeds("glscl", model, given["clip"], inputs, work, captions, settings, [0], out)
        rows.append({"temperature": temperature, "seed": 0, "val_mean_recall": curve["val_mean_recall"].max()})
        print(rows[-1], flush=True)
    write_table("benchmarks/temperature.csv", pd.DataFrame(rows).round(3))
