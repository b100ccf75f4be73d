"""Which stages a run of a profile has, and which of them are out of date."""

import subprocess
import sys

import pytest

from glscl.study import pipeline
from tests import ROOT


def test_a_profile_has_its_own_stages_and_the_shared_ones():
    quick, full = (pipeline.stages_of(ROOT, profile) for profile in ("quick", "full"))
    shared = {"code", "features@facets", "check@scenes", "prepare@scenes", "encode@scenes"}
    assert set(quick) & set(full) == shared
    assert all("@quick" in name for name in set(quick) - shared)
    assert all(name.startswith("full_") and "@full" in name for name in set(full) - shared)


@pytest.mark.slow
def test_what_was_run_is_up_to_date_until_something_changes(small):
    root = small("open(f'seen-{dataset}-{method}.json', 'w').close()")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    names = ["train@stories-glscl", "train@stories-x_clip"]
    assert pipeline.out_of_date(root, names) == names
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q", "train@stories-x_clip"], check=True)
    assert pipeline.out_of_date(root, names) == ["train@stories-glscl"]
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("weight_decay: 0.2", "weight_decay: 0.1", 1))
    assert pipeline.out_of_date(root, names) == names


def test_an_unknown_profile_is_refused(capsys):
    with pytest.raises(SystemExit):
        pipeline.main(["fulll"])
    assert "the profiles quick, full, got 'fulll'" in capsys.readouterr().err
