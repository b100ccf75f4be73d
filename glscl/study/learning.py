"""One method, trained once per seed on a prepared corpus: what its curves and its clocks say."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from glscl.data.dataset import PreparedCorpus
from glscl.methods import settings_of
from glscl.study.project import commit, hardware
from glscl.training.runs import train_seeds
from glscl.training.trainer import TrainSettings


class Learning(NamedTuple):
    """What `glscl.training.runs.train_seeds` returns for one method: learning curves and clocks of all seeds."""

    curves: pd.DataFrame
    clocks: pd.DataFrame

    def mean_curve(self) -> pd.DataFrame:
        """One row per epoch: step, losses and validation recall (percent), each the mean over seeds."""
        means = self.curves.groupby(["epoch", "step"], as_index=False).mean(numeric_only=True)
        return means.drop(columns="seed").round(4)

    def measured(self) -> dict:
        """What training took on this machine: the seconds of all seeds together, means per epoch, and the machine."""
        return {
            "seconds": self.clocks["seconds"].sum(),
            "items_per_second": self.clocks["items_per_second"].mean(),
            "data_wait_share": self.clocks["data_wait_share"].mean(),
            "hardware": hardware(),
            "commit": commit(),
        }

    def answer(self) -> str:
        """The validation recall that the selected epochs reach, in one sentence."""
        best = self.curves.loc[self.curves.groupby("seed")["val_r1"].idxmax()]
        recall, first, last = best["val_r1"], best["epoch"].min(), best["epoch"].max()
        epochs = f"epoch {first}" if first == last else f"epochs {first} to {last}"
        return (
            f"Mean validation recall reaches {recall.mean():.1f} % (seeds {recall.min():.1f} to {recall.max():.1f}) "
            f"at {epochs} of {self.curves['epoch'].max()}."
        )

    def clock_answer(self) -> str:
        """What training took, in one sentence."""
        measured = self.measured()
        return (
            f"On this machine training took {measured['seconds'] / 60:.1f} minutes over all seeds, "
            f"{measured['items_per_second']:,.0f} texts per second, "
            f"{100 * measured['data_wait_share']:.0f} % of the time waiting for data."
        )


def learn(corpus: Path, inputs: dict, head: str, model: dict, train: dict, seeds: list[int], folder: Path) -> Learning:
    """Train the method `head` on the prepared corpus in the folder `corpus`, and write one model per seed to `folder`.

    inputs: as given to `glscl.study.preparation.prepare`. model: settings of any head; those that `head` lacks are left
    out. train: fields of `glscl.training.trainer.TrainSettings` but the backbone. Raises ValueError at an unknown
    setting.
    """
    prepared = PreparedCorpus.open(corpus, inputs["clip"], inputs["backbone"], inputs["words"])
    settings = TrainSettings(**train, backbone=inputs["backbone"])
    return Learning(*train_seeds(head, settings_of(head, model), prepared, settings, seeds, folder))
