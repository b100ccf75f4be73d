"""The rehearsal of a benchmark: its plan is the preset's, its numbers follow from measurements, a full disk ends it."""

import shutil
from functools import cache
from types import SimpleNamespace

import pytest

from benchmarks import rehearsal
from benchmarks.made_up import clip_config, random_model
from benchmarks.rehearsal import DATASETS, Plan, lines, rehearse
from glscl.study import parameters
from tests import ROOT


@pytest.fixture(scope="module")
def plans():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "load_params", cache(parameters.load_params))  # which takes a second
        return {dataset: Plan.of(dataset) for dataset in DATASETS}


def test_the_plan_is_the_benchmark_as_the_pipeline_trains_it(plans):
    videos = {dataset: plan.videos for dataset, plan in plans.items()}
    assert videos["msrvtt"] == 10_000
    assert videos["activitynet"] == 9_509 + 500 + 4_917
    assert videos["lsmdc"] == 101_079 + 7_408 + 1_000  # at most: its videos were not counted
    assert plans["vatex"].counts["test"] == (1_500, 15_000)
    long, short = plans["activitynet"], plans["charades"]
    assert (long.sampling.frames, long.words, long.settings.batch_size, long.model["num_queries"]) == (64, 64, 64, 12)
    assert (long.settings.optimizer, short.settings.optimizer) == ("released", "adamw")
    assert (short.sampling.frames, short.words, short.sampling.offsets) == (12, 77, 3)
    assert all(plan.clip.vision_config.num_hidden_layers == 12 for plan in plans.values())


@pytest.mark.parametrize(
    ("dataset", "gigabytes"), [("msrvtt", 1.8), ("msvd", 0.4), ("charades", 5.6), ("didemo", 10.6)]
)
def test_the_disk_is_that_of_the_page(plans, dataset, gigabytes):
    assert plans[dataset].disk() / 1e9 == pytest.approx(gigabytes, abs=0.06)


def rows() -> dict[str, list[str]]:
    """The rows of the page's table of memory, by preset: each preset has its own cells."""
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    table = page[page.index("| preset | frames, words, batch |") :].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table]
    return {name.strip("` "): row for names, *row in cells for name in names.split(",")}


def test_the_page_has_the_memory_of_every_preset(plans):
    shown = {dataset: row[0] for dataset, row in rows().items()}
    sizes = {name: (plan.sampling.frames, plan.words, plan.settings.batch_size) for name, plan in plans.items()}
    assert shown == {dataset: ", ".join(map(str, size)) for dataset, size in sizes.items()}


@pytest.mark.slow
def test_the_page_names_the_smallest_settings_of_the_largest_preset(plans):
    plan = plans["activitynet"]
    memory = rehearsal._memory(random_model("glscl", plan.clip, **plan.model), plan.settings, gpu=True)
    batch, (_, plain, lean, *named) = plan.settings.batch_size, rows()["activitynet"]
    assert plain == f"{memory.peak(batch) / 2**30:.0f}"
    assert lean == f"{memory.peak(batch, checkpointing=True) / 2**30:.0f}"
    found = [memory.smallest(card * 2**30, batch) for card in rehearsal.CARDS]
    wanted = [" and ".join(f"{name}: {value}".lower() for name, value in one.items() if value) for one in found]
    assert named == [words or "nothing" for words in wanted]


def test_a_clip_whose_sizes_are_not_known_is_refused():
    assert clip_config("openai/clip-vit-base-patch16").vision_config.patch_size == 16
    with pytest.raises(
        ValueError, match=r"^the sizes of somebody/clip should be known without a download; name a folder"
    ):
        clip_config("somebody/clip")


def test_a_store_that_the_disk_would_not_hold_is_refused_before_anything_is_made(monkeypatch, tmp_path, plans):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=15e9))
    plans["didemo"].require_disk(tmp_path)
    with pytest.raises(
        ValueError, match=r"^the frame store of activitynet takes 15.1 GB, got a disk with 15.0 GB free;"
    ):
        rehearse(plans["activitynet"], tmp_path, 60)
    assert not list(tmp_path.iterdir())


def test_a_reduced_rehearsal_says_what_the_run_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(rehearsal, "SHARE", 0.001)
    plan = Plan.of("msrvtt", reduced=True)
    found = rehearse(plan, tmp_path, 0.1)
    assert (found["made"], found["videos"], found["trained"]) == (16, 10_000, 8)
    train = 170_000 / found["pairs_per_second"]
    assert train < 3600 * found["epoch_hours"] < train + 3600 * found["evaluation_hours"]  # validation is smaller
    assert found["scoring_seconds"] < 3600 * found["evaluation_hours"]
    assert found["counted"] > 0
    assert found["cards"] == {24: "change nothing", 40: "change nothing", 80: "change nothing"}
    text = "\n".join(lines(found))
    assert "rehearsed with 16 of 10,000 videos of 2 frames" in text
    assert f"{15 * found['epoch_hours']:.3g} for 3 seeds" in text
