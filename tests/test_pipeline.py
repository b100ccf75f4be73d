"""Every notebook, on a small corpus, as the pipeline runs it; then the report in a browser; then bad inputs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from glscl.study import stage
from tests import ROOT
from tests.browser import Browser

METHODS = ["clip4clip_seqTransf", "t_mass", "cross_encoder_temporal", "glscl"]
HEADS = ["clip4clip_seqTransf", "t_mass", "glscl"]
SMALL = {"scenes": {"train": 24, "val": 10, "test": 10}, "stories": {"train": 16, "val": 6, "test": 6}}

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def project(bundled, tmp_path_factory):
    """A copy of the project's notebooks and parameters with a corpus of 44 clips, and another of 28."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in ("dvc.yaml", "data.dvc"):
        shutil.copy(ROOT / name, root)
    (root / "results").mkdir()
    shutil.copy(ROOT / "results/published.csv", root / "results")
    (root / "data").mkdir()
    (root / "data/tiny-clip").symlink_to(bundled / "tiny-clip")
    for name, sizes in SMALL.items():
        corpus = root / "data" / name
        (corpus / "videos").mkdir(parents=True)
        captions = pd.read_csv(bundled / name / "captions.csv")
        kept = {s: captions.loc[captions["split"] == s, "video"].unique()[:n] for s, n in sizes.items()}
        captions = captions[[row.split in kept and row.video in kept[row.split] for row in captions.itertuples()]]
        captions.to_csv(corpus / "captions.csv", index=False)
        events = pd.read_csv(bundled / name / "events.csv")
        events[events["video"].isin(captions["video"])].to_csv(corpus / "events.csv", index=False)
        for video in captions["video"].unique():
            shutil.copy(bundled / name / f"videos/{video}.mp4", corpus / "videos")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["train"] |= {"batch_size": 32}
    params["concepts"] |= {"pairs": 8, "perplexity": 5}
    params["profiles"]["quick"] |= {
        "methods": METHODS,
        "seeds": [0, 1],
        "train": {"epochs": 2},
        "costs": {"galleries": [20, 40], "memory_gb": 1.0, "patience": 0.1, "blocks": 2},
        "losses": {"seeds": [0, 1], "epochs": 1, "captions_per_video": 3, "batch_sizes": [16, 32]},
        "convergence": {
            "heads": HEADS,
            "seeds": [0, 1],
            "captions_per_video": 2,
            "short_epochs": 2,
            "rates": [1e-3, 3e-3],
        },
        "transfer": {"heads": HEADS, "fine_tune_videos": 8, "fine_tune_epochs": 1},
    }
    params["datasets"]["scenes"]["inputs"]["frames"] = 4
    params["datasets"]["stories"]["inputs"]["frames"] = 6
    params["datasets"]["stories"]["train"] = {"epochs": 1, "batch_size": 8}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


def run(root: Path, number: str, *assignments: str, dataset: str = "scenes", method: str = "glscl") -> int:
    """Run notebook `number` as dvc.yaml does, with the sections of params.yaml that its stage declares."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    name = next((root / "notebooks").glob(f"{number}_*.ipynb")).stem.partition("_")[2]
    text = json.dumps(stages[name]).replace("${transfer.target}", "stories")
    for item, value in (("profile", "quick"), ("dataset", dataset), ("method", method)):
        text = text.replace(f"${{item.{item}}}", value)
    notebook, *given = json.loads(text)["cmd"].split()[3:]
    sections = ",".join(json.loads(text)["params"])
    return stage.main([str(root / notebook), *given, *assignments, "--sections", sections])


@pytest.fixture(scope="module")
def costs(project):
    """The costs, which belong to no corpus and stand in every report."""
    assert run(project, "06") == 0


def test_the_whole_pipeline_on_a_small_corpus(project, costs, tmp_path):
    for number in ("00", "01", "02"):
        assert run(project, number) == 0
    for method in METHODS:
        assert run(project, "03", method=method) == 0
    for number in ("04", "05", "07", "08", "09", "10", "11", "12", "13"):
        assert run(project, number) == 0
    table = pd.read_csv(project / "results/quick/scenes/table.csv")
    assert {*METHODS, "chance", "oracle", "bag-of-words ridge"} <= set(table["method"])
    rows = pd.read_csv(project / "results/quick/scenes/rows.csv")
    assert set(rows.loc[rows["method"] == "glscl", "seed"]) == {0, 1}
    assert (rows["missing"] == 0).all()
    losses = json.loads((project / "results/quick/scenes/losses.json").read_text())
    assert len(losses["rows"]) == 12
    assert set(losses["effects"]) == {name for name in losses["rows"] if not name.endswith("/full")}
    assert losses["rows"]["described/no local interaction"] == losses["rows"]["released/no local interaction"]
    assert losses["batch_sizes"]["16"]["target"] == 2 * losses["batch_sizes"]["32"]["target"] == 0.375
    convergence = json.loads((project / "results/quick/scenes/convergence.json").read_text())
    assert convergence["common_best"] == max(head["best"]["mean"] for head in convergence["heads"].values())
    curves = pd.read_csv(project / "results/quick/scenes/convergence.csv")
    for method, head in convergence["heads"].items():
        assert head["lr"] == max(map(float, head["sweep"]), key=lambda rate: head["sweep"][f"{rate:g}"])
        assert (curves["method"] == method).sum() == 2 * 3
        assert head["reached"] == sum(step is not None for step in head["steps_to_90"]["each"])
    found = convergence["differences"]["clip4clip_seqTransf"]["area"]
    areas = (convergence["heads"][m]["area"]["mean"] for m in ("glscl", "clip4clip_seqTransf"))
    assert found["difference"] == pytest.approx(np.subtract(*areas), abs=1e-3)
    found = json.loads((project / "results/quick/scenes/transfer.json").read_text())
    assert {way: set(heads) for way, heads in found["transfers"].items()} == {
        "scenes to stories": set(HEADS),
        "stories to scenes": set(HEADS),
    }
    assert found["scope"]["texts"] == {"scenes to stories": 6, "stories to scenes": 10}
    claims = json.loads((project / "results/claims/quick.json").read_text())["claims"]
    assert len({claim["claim"] for claim in claims}) == 11
    assert all(claim["evidence"] for claim in claims)
    pages = sorted(path.name for path in (project / "reports/quick").glob("*.html"))
    assert pages == [
        "00_check.html",
        "01_prepare.html",
        "02_encode.html",
        "03_train.html",
        "04_evaluate.html",
        "05_concepts.html",
        "06_costs.html",
        "07_search.html",
        "08_benchmarks.html",
        "09_losses.html",
        "10_convergence.html",
        "11_transfer.html",
        "12_ledger.html",
        "index.html",
    ]
    with Browser(1280, 900) as browser:
        for page in pages:
            browser.open(project / "reports/quick" / page)
            browser.screenshot(tmp_path / f"{page}.png")
            assert browser.errors == [], page
            assert browser.external_requests() == [], page
            assert len(browser.run("document.body.innerText")) > 400, page


@pytest.mark.parametrize(
    ("without", "named"),
    [("transfer.target=scenes", "scenes"), ("inputs.backbone=finetuned", "finetuned"), ("transfer.heads=[]", "none")],
)
def test_transfer_without_a_second_corpus_a_frozen_clip_or_heads_says_so(project, without, named):
    assert run(project, "11", without) == 0
    found = json.loads((project / "results/quick/scenes/transfer.json").read_text())
    assert "transfer needs a second corpus" in found["answer"]
    assert named in found["details"][0]
    assert found["transfers"] == {}


def test_a_misspelt_parameter_is_refused_before_anything_runs(project, capsys):
    assert run(project, "01", "inputs.framse=3") == 1
    assert "framse" in capsys.readouterr().err


@pytest.fixture
def broken(project):
    """A function that damages one test clip of the project; the clip is mended afterwards."""
    video = sorted((project / "data/scenes/videos").iterdir())[-1]
    content = video.read_bytes()

    def damage(kind: str) -> str:
        video.unlink()
        if kind == "truncated":
            video.write_bytes(content[: len(content) // 3])
        elif kind == "zero bytes":
            video.touch()
        return video.stem

    yield damage
    video.write_bytes(content)


@pytest.mark.parametrize("kind", ["absent", "truncated", "zero bytes"])
def test_a_bad_video_stops_the_first_stage_and_is_named(project, broken, capsys, kind):
    (project / "results/corpora/scenes/check.json").unlink(missing_ok=True)
    video = broken(kind)
    assert run(project, "00") == 1
    error = capsys.readouterr().err
    assert video in error
    assert "1 of the test split" in error
    assert "check.max_missing" in error
    assert not (project / "results/corpora/scenes/check.json").exists()


def test_names_that_do_not_match_are_explained(project, capsys):
    video = sorted((project / "data/scenes/videos").iterdir())[-1]
    renamed = video.rename(video.with_name(f"clip_{video.name}"))
    try:
        assert run(project, "00") == 1
    finally:
        renamed.rename(video)
    error = capsys.readouterr().err
    assert f"{renamed.name} lies where {video.name} is expected" in error


def test_a_missing_video_within_the_budget_is_counted(project, broken):
    video = broken("absent")
    for number, name in (("00", "check"), ("01", "data")):
        assert run(project, number, "check.max_missing=1") == 0
        summary = json.loads((project / f"results/corpora/scenes/{name}.json").read_text())
        assert summary["missing"] == 1
        assert summary["missing_videos"][0][0] == video
        assert str(project) not in json.dumps(summary)
    captions = pd.read_parquet(project / "work/corpora/scenes/captions.parquet")
    assert video not in set(captions["video"])


def test_a_few_own_videos_are_evaluated_and_searched_without_training(project, costs, capsys):
    folder = project / "corpora/own"
    folder.mkdir(parents=True)
    captions = pd.read_csv(project / "data/scenes/captions.csv").query("split == 'test'").head(6)
    captions[["video", "caption"]].to_csv(folder / "captions.csv", index=False)
    for video in captions["video"]:
        shutil.copy(project / f"data/scenes/videos/{video}.mp4", folder)
    assert run(project, "00", dataset="own") == 1
    assert "to []" in capsys.readouterr().err
    for number in ("00", "01", "02", "04", "07"):
        assert run(project, number, *(["methods=[]"] if number in ("00", "04", "07") else []), dataset="own") == 0
    assert run(project, "10", dataset="own") == 0
    assert "nothing was trained" in json.loads((project / "results/quick/own/convergence.json").read_text())["answer"]
    assert run(project, "08", "methods=[]", dataset="own") == 0
    assert run(project, "11", "transfer.heads=[]", dataset="own") == 0
    for number in ("12", "13"):
        assert run(project, number, "datasets=[own]", "methods=[]", "concepts_of=[]") == 0
    table = pd.read_csv(project / "results/quick/own/table.csv")
    assert set(table["method"]) == {"zero-shot CLIP", "chance"}
    page = (project / "reports/quick/07_search.html").read_text()
    assert page.count("data:video/mp4;base64,") == 12
    (folder / "captions.csv").unlink()
    assert run(project, "07", "methods=[]", "search.queries=[a red circle]", dataset="own") == 0
