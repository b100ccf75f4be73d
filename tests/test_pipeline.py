"""Every notebook, on a small corpus, as the pipeline runs it; then the report in a browser; then bad inputs."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from glscl import stage
from tests.browser import Browser

ROOT = Path(__file__).parents[1]
METHODS = ["clip4clip_seqTransf", "t_mass", "cross_encoder_temporal", "glscl"]
SMALL = {"train": 24, "val": 10, "test": 10}


@pytest.fixture(scope="module")
def project(bundled, tmp_path_factory):
    """A copy of the project's notebooks and parameters with a corpus of 44 clips."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in ("dvc.yaml", "data.dvc"):
        shutil.copy(ROOT / name, root)
    corpus = root / "data/scenes"
    (corpus / "videos").mkdir(parents=True)
    (root / "data/tiny-clip").symlink_to(bundled / "tiny-clip")
    captions = pd.read_csv(bundled / "scenes/captions.csv")
    kept = {s: captions.loc[captions["split"] == s, "video"].unique()[:n] for s, n in SMALL.items()}
    captions = captions[[row.split in kept and row.video in kept[row.split] for row in captions.itertuples()]]
    captions.to_csv(corpus / "captions.csv", index=False)
    events = pd.read_csv(bundled / "scenes/events.csv")
    events[events["video"].isin(captions["video"])].to_csv(corpus / "events.csv", index=False)
    for video in captions["video"].unique():
        shutil.copy(bundled / f"scenes/videos/{video}.mp4", corpus / "videos")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["study"] |= {"datasets": ["scenes"], "seeds": [0, 1], "methods": METHODS}
    params["train"] |= {"epochs": 2, "batch_size": 32}
    params["concepts"] |= {"pairs": 8, "perplexity": 5}
    params["costs"] |= {"galleries": [20, 40], "memory_gb": 1.0, "patience": 0.1, "blocks": 2}
    params["datasets"]["scenes"]["inputs"]["frames"] = 4
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


def run(root: Path, number: str, *assignments: str) -> int:
    """Run notebook `number` with the sections of params.yaml that its stage declares in dvc.yaml."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    notebook = next((root / "notebooks").glob(f"{number}_*.ipynb"))
    declared = stages[notebook.stem.partition("_")[2]]["params"]
    given = dict(assignment.split("=") for assignment in assignments)
    sections = ",".join(declared).replace("${item.dataset}", "scenes")
    sections = sections.replace("${item.method}", given.get("method", ""))
    name = "-".join([notebook.stem, *(value.partition("=")[2] for value in assignments)])
    output = root / "work" / ("" if number == "07" else "notebooks") / f"{name}.ipynb"
    return stage.main([str(notebook), str(output), *assignments, "--sections", sections])


@pytest.mark.slow
def test_the_whole_pipeline_on_a_small_corpus(project, tmp_path):
    (project / "results/scenes").mkdir(parents=True)
    for number in ("01", "02"):
        assert run(project, number, "dataset=scenes") == 0
    for method in METHODS:
        assert run(project, "03", "dataset=scenes", f"method={method}") == 0
    for number in ("04", "05"):
        assert run(project, number, "dataset=scenes") == 0
    for number in ("06", "07"):
        assert run(project, number) == 0
    table = pd.read_csv(project / "results/scenes/table.csv")
    assert {*METHODS, "chance", "oracle", "words to thumbnails"} <= set(table["method"])
    rows = pd.read_csv(project / "results/scenes/rows.csv")
    assert set(rows.loc[rows["method"] == "glscl", "seed"]) == {0, 1}
    assert (rows["missing"] == 0).all()
    pages = sorted(path.name for path in (project / "reports").glob("*.html"))
    assert pages == [
        "01_prepare.html",
        "02_encode.html",
        "03_train.html",
        "04_evaluate.html",
        "05_concepts.html",
        "06_costs.html",
        "index.html",
    ]
    with Browser(1280, 900) as browser:
        for page in pages:
            browser.open(project / "reports" / page)
            browser.screenshot(tmp_path / f"{page}.png")
            assert browser.errors == [], page
            assert browser.external_requests() == [], page
            assert len(browser.run("document.body.innerText")) > 400, page


def test_a_misspelt_parameter_is_refused_before_anything_runs(project, capsys):
    assert run(project, "01", "dataset=scenes", "framse=3") == 1
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["absent", "truncated", "zero bytes"])
def test_a_bad_video_stops_the_stage_and_is_named(project, broken, capsys, kind):
    store = project / "work/scenes"
    shutil.rmtree(store, ignore_errors=True)
    video = broken(kind)
    assert run(project, "01", "dataset=scenes") == 1
    error = capsys.readouterr().err
    assert video in error
    assert "max_missing" in error
    assert not (store / "captions.parquet").exists()
    assert not (store / "frames").exists()


@pytest.mark.slow
def test_a_missing_video_within_the_budget_is_counted(project, broken):
    video = broken("absent")
    assert run(project, "01", "dataset=scenes", "max_missing=1") == 0
    summary = json.loads((project / "results/scenes/data.json").read_text())
    assert summary["missing"] == 1
    assert summary["missing_videos"][0][0] == video
    captions = pd.read_parquet(project / "work/scenes/captions.parquet")
    assert video not in set(captions["video"])
