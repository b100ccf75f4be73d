"""The fault campaign in its short form: one training is killed, one damaged, one forced; what is counted as lost."""

import random
import re

import pytest
import yaml

from benchmarks import faults
from benchmarks.faults import LOST, REFUSED, SURVIVED, Project, Trial, sentence, table

STAGE = "train@quick-features-facets-clip4clip_seqTransf"


@pytest.fixture(scope="module")
def project(bundled, tmp_path_factory):
    """The small project with one trained method."""
    project = Project.write(tmp_path_factory.mktemp("faults").resolve() / "project", bundled)
    file = project.folder / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params["profiles"]["quick"]["features"]["train"]["lr_new"] = 1e-3  # one rate, for time
    file.write_text(yaml.safe_dump(params))
    for stage in ("code", "features@facets", STAGE):
        project.call(*project.repro(stage))
    return project


@pytest.mark.pipeline
@pytest.mark.parametrize("kind", ["kill -9 of the kernel", faults.DAMAGED_RESUME])
def test_a_disturbed_training_gives_the_same_bytes_and_leaves_no_process(project, kind):
    trial = faults.disturb(project, kind, STAGE, 8.0, random.Random(0))
    assert trial.outcome in (SURVIVED, REFUSED), trial.said
    assert not trial.orphans


@pytest.mark.pipeline
def test_a_forced_stage_trains_again_to_the_same_bytes(project):
    expected = project.made(STAGE)
    project.environment.pop("PYTEST_CURRENT_TEST", None)  # with it a kernel passes on nothing that its processes print
    said = project.call(*project.repro(STAGE), "--force")
    assert sorted(re.findall(r"(seed \d), rate \S+, (epoch \d) of 2", said)) == [
        (seed, epoch) for seed in ("seed 0", "seed 1") for epoch in ("epoch 1", "epoch 2")
    ]
    assert project.made(STAGE) == expected


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("stage 1 of 3\nerror: a.safetensors is damaged; remove it.\n", True),
        ("ERROR: failed to reproduce", False),
        ("Traceback (most recent call last):\nOSError: Directory not empty\n", False),
    ],
)
def test_a_failure_that_says_why_has_a_line_for_it(printed, said):
    assert sentence(printed) == said


@pytest.mark.parametrize("seed", range(20))
def test_damage_never_leaves_a_file_longer_and_is_the_same_for_the_same_seed(tmp_path, seed):
    whole = random.Random(1).randbytes(10_000)
    left = []
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(whole)
        faults.damage(tmp_path / name, random.Random(seed))
        left.append((tmp_path / name).read_bytes())
    assert left[0] == left[1] != whole
    assert len(left[0]) <= len(whole)


def test_the_table_counts_by_kind_and_in_all():
    trials = [Trial("Ctrl-C", "a", SURVIVED), Trial("Ctrl-C", "b", LOST, orphans=True), Trial("SIGTERM", "a", REFUSED)]
    assert table(trials).splitlines()[2:] == [
        "| Ctrl-C | 2 | 1 | 0 | 1 | 1 |",
        "| SIGTERM | 1 | 0 | 1 | 0 | 0 |",
        "| all | 3 | 1 | 1 | 1 | 1 |",
    ]


def test_every_stage_is_killed_and_a_seed_gives_the_same_plan():
    stages = ["features@facets", STAGE, "videos_train@quick-videos-scenes-glscl", "report@quick"]
    plan = faults.planned(stages, random.Random(3))
    assert plan == faults.planned(stages, random.Random(3))
    assert {stage for kind, stage in plan if kind in faults.KINDS} == set(stages)
    assert {kind for kind, _ in plan} == {*faults.KINDS, *faults.OTHERS}
    assert all("train@" in stage for kind, stage in plan if kind.endswith("training process"))
