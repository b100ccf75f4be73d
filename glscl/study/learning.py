"""One method, trained once per seed on a prepared corpus: its learning rate, and what its curves and its clocks say."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from glscl.data.dataset import PreparedCorpus
from glscl.methods import settings_of
from glscl.study.processes import one_thread_each
from glscl.study.project import commit, hardware
from glscl.training.runs import train_seeds
from glscl.training.trainer import TrainSettings


class Learning(NamedTuple):
    """What `glscl.training.runs.train_seeds` returns for one method: learning curves and clocks of all seeds.

    rates: {learning rate of the head: best R@1 on validation, percent, of the first seed}. kept: the rate of all seeds.
    """

    curves: pd.DataFrame
    clocks: pd.DataFrame
    rates: dict[float, float]
    kept: float

    def sweep(self) -> dict:
        """The content of `rates-<method>.json`: the R@1 of every rate, the one kept, and whether it is an extreme."""
        edge = len(self.rates) > 1 and self.kept in (min(self.rates), max(self.rates))
        reached = {f"{rate:g}": score for rate, score in self.rates.items()}
        return {"val_r1": reached, "kept": self.kept, "at_the_edge": edge}

    def gained_last(self) -> float:
        """Points of R@1 on validation that the last epoch added to the best before it, mean over seeds; 0 at least.

        Without a second epoch nothing is known: infinite.
        """
        gains = [
            max(0.0, run["val_r1"].iloc[-1] - run["val_r1"].iloc[:-1].max()) if len(run) > 1 else float("inf")
            for _, run in self.curves.groupby("seed")
        ]
        return sum(gains) / len(gains)

    def mean_curve(self) -> pd.DataFrame:
        """One row per epoch: step, losses and R@1 on validation (percent), each the mean over seeds."""
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
        """The R@1 on validation that the selected epochs reach, in one sentence."""
        best = self.curves.loc[self.curves.groupby("seed")["val_r1"].idxmax()]
        recall, first, last = best["val_r1"], best["epoch"].min(), best["epoch"].max()
        epochs = f"epoch {first}" if first == last else f"epochs {first} to {last}"
        return (
            f"R@1 on validation reaches {recall.mean():.1f} % (seeds {recall.min():.1f} to {recall.max():.1f}) "
            f"at {epochs} of {self.curves['epoch'].max()}, with a learning rate of {self.kept:g}."
        )

    def clock_answer(self) -> str:
        """What training took, in one sentence; of seeds, which may run side by side, the slowest counts."""
        measured, each = self.measured(), self.clocks.groupby("seed")["seconds"].sum()
        return (
            f"On this machine the slowest of {len(each)} seeds trained for {each.max() / 60:.1f} minutes, "
            f"{measured['items_per_second']:,.0f} texts per second, "
            f"{100 * measured['data_wait_share']:.0f} % of the time waiting for data."
        )


def learn(
    corpus: Path,
    inputs: dict,
    head: str,
    model: dict,
    train: dict,
    seeds: list[int],
    folder: Path,
    start: Path | None = None,
) -> Learning:
    """Train the method `head` on the prepared corpus in the folder `corpus`, and write one model per seed to `folder`.

    inputs: as given to `glscl.study.preparation.prepare`. model: settings of any head; those that `head` lacks are left
    out. train: fields of `glscl.training.trainer.TrainSettings` but the backbone; of several rates in `lr_new` all
    seeds get the one with which the first reaches the best R@1 on validation. start: folder of the trained method that
    the runs start from, as `glscl.training.runs.train_seeds` takes it. Raises ValueError at an unknown setting.
    """
    prepared = PreparedCorpus.open(corpus, inputs["clip"], inputs["backbone"], inputs["words"])
    rates = train["lr_new"] if isinstance(train["lr_new"], Sequence) else [train["lr_new"]]
    settings = TrainSettings(**(train | {"lr_new": rates[0]}), backbone=inputs["backbone"])
    chosen, reached = settings_of(head, model), {}
    if len(rates) > 1:
        jobs = [
            (
                head,
                chosen,
                prepared,
                replace(settings, lr_new=rate),
                seeds[0],
                folder.with_name(f".{folder.name}-{i}"),
                start,
            )
            for i, rate in enumerate(rates)
        ]
        reached = dict(zip(rates, one_thread_each(best_r1, jobs), strict=True))
    kept = max(reached, key=reached.get, default=rates[0])
    curves, clocks = train_seeds(head, chosen, prepared, replace(settings, lr_new=kept), seeds, folder, start)
    if not reached:
        reached = {kept: curves.loc[curves["seed"] == seeds[0], "val_r1"].max()}
    return Learning(curves, clocks, reached, kept)


def best_r1(
    head: str,
    model: dict,
    corpus: PreparedCorpus,
    settings: TrainSettings,
    seed: int,
    scratch: Path,
    start: Path | None = None,
) -> float:
    """R@1 on validation, percent, of the best epoch of one training; `scratch` holds its model meanwhile."""
    curve, _ = train_seeds(head, model, corpus, settings, [seed], scratch, start)
    shutil.rmtree(scratch, ignore_errors=True)  # several processes of a launcher do
    return float(curve["val_r1"].max())
