"""Every notebook, on a small corpus, as the pipeline runs it; then the report in a browser; then bad inputs."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import papermill
import pytest
import yaml

from benchmarks import small_study
from benchmarks.small_study import METHODS, ON_VIDEOS, RERANKER
from glscl.study import own, stage
from glscl.study.parameters import load_params
from glscl.study.project import STAGE
from tests import ROOT
from tests.browser import Browser

# With pytest-xdist one process runs the whole pipeline and another one all other tests, each in a project of its own.
pytestmark = pytest.mark.pipeline
WHOLE, OTHERS = (pytest.mark.xdist_group(name) for name in ("whole", "others"))


@pytest.fixture(scope="module")
def project(bundled, tmp_path_factory):
    """The project with few features, a corpus of 44 clips, and another of 28."""
    root = tmp_path_factory.mktemp("project")
    small_study.write(root, bundled)
    return root


def run(
    root: Path, name: str, *assignments: str, dataset: str = "facets", method: str = "glscl", profile: str = "quick"
) -> int:
    """Run the notebook of a stage as dvc.yaml does, with the sections of params.yaml that the stage declares."""
    stages, params = yaml.safe_load((root / "dvc.yaml").read_text()), load_params(root)
    items = {"profile": profile, "dataset": dataset, "method": method}
    items["world"] = "features" if dataset in params["study"]["features"] else "videos"
    text = json.dumps(stages["stages"][name]).replace("${transfer.target}", "stories")
    for item, value in items.items():
        text = text.replace(f"${{item.{item}}}", value)
    notebook, *given = json.loads(text)["cmd"].split()[3:]
    sections = ",".join(json.loads(text)["params"])
    return stage.main([str(root / notebook), *given, *assignments, "--sections", sections])


def found(project: Path, name: str, dataset: str = "facets") -> dict:
    """What a stage wrote."""
    return json.loads((project / f"results/quick/{dataset}/{name}.json").read_text())


@pytest.fixture(scope="module")
def finished(project):
    """The project once every stage of its quick profile has run."""
    assert run(project, "features") == 0
    for method in [*METHODS, RERANKER]:
        assert run(project, "train", method=method) == 0
    for name in ("costs", "evaluate", "concepts", "benchmarks", "worlds", "losses", "convergence", "transfer"):
        assert run(project, name) == 0, name
    for name in ("check", "prepare", "encode"):
        assert run(project, name, dataset="scenes") == 0
    for method in ON_VIDEOS:
        assert run(project, "train", dataset="scenes", method=method) == 0
    for name in ("evaluate", "concepts", "search", "benchmarks"):
        assert run(project, name, dataset="scenes") == 0, name
    for name in ("ledger", "report"):
        assert run(project, name) == 0
    return project


@WHOLE
def test_the_whole_pipeline_on_small_corpora(finished, tmp_path):
    project = finished
    table = pd.read_csv(project / "results/quick/scenes/table.csv")
    assert {*ON_VIDEOS, "chance", "oracle", "bag-of-words ridge"} <= set(table["method"])
    rows = pd.read_csv(project / "results/quick/facets/rows.csv")
    assert set(rows.loc[rows["method"] == "glscl", "seed"]) == {0, 1}
    assert (rows["missing"] == 0).all()
    metrics = found(project, "metrics")
    assert set(metrics["twins"]) == {*METHODS, RERANKER}
    assert set(metrics["twins"]["glscl"]) == {"colour", "order", "shape", "motion"}
    assert metrics["over_control"][RERANKER]["control"] == "clip4clip_seqTransf"
    assert metrics["ceilings"]["bag"]["R@1"] <= metrics["ceilings"]["ordered"]["R@1"]
    for method in METHODS:
        sweep = found(project, f"rates-{method}")
        assert sweep["kept"] == max(map(float, sweep["val_r1"]), key=lambda rate: sweep["val_r1"][f"{rate:g}"])
    assert set(found(project, "worlds")["worlds"]["two"]["heads"]) == {"x_clip", "glscl"}
    losses = found(project, "losses")
    assert {"inter-consistency", "intra-diversity", "both losses"} <= set(losses["contrasts"])
    curves = pd.read_csv(project / "results/quick/facets/convergence.csv")
    assert set(curves["method"]) == {"x_clip", "glscl"}
    shifts = found(project, "transfer")["shifts"]
    assert set(shifts) == {"look", "length"}
    assert all(set(heads) == {"x_clip", "glscl"} for heads in shifts.values())
    claims = json.loads((project / "results/claims/quick.json").read_text())["claims"]
    assert len({claim["claim"] for claim in claims}) == 11
    assert all(claim["evidence"] for claim in claims)

    pages = sorted(path.name for path in (project / "reports/quick").glob("*.html"))
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} - {"13_report", "explore"}
    assert pages == sorted(f"{name}.html" for name in [*notebooks, "index"])
    with Browser(1280, 900) as browser:
        for page in pages:
            browser.open(project / "reports/quick" / page)
            browser.screenshot(tmp_path / f"{page}.png")
            assert browser.errors == [], page
            assert browser.external_requests() == [], page
            assert len(browser.run("document.body.innerText")) > 400, page


@WHOLE
def test_every_notebook_runs_by_hand_and_changes_nothing_that_a_stage_made(finished, monkeypatch):
    (finished / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", finished / ".dvc")
    subprocess.run(["git", "init", "--quiet", finished], check=True)
    monkeypatch.delenv(STAGE)  # which a stage sets for its kernel
    before = made_by_stages(finished)
    parameters = {}
    for file in sorted((finished / "work/notebooks").rglob("*.json")):
        parameters.setdefault(file.stem.partition("-")[0], json.loads(file.read_text()))
    assert parameters.keys() == {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    for name, given in parameters.items():
        notebook, output = finished / f"notebooks/{name}.ipynb", finished.parent / f"{name}.ipynb"
        papermill.execute_notebook(notebook, output, given, cwd=notebook.parent, progress_bar=False)
        assert "No stage runs this notebook: it writes into work/by-hand/" in output.read_text()
    assert made_by_stages(finished) == before


def made_by_stages(project: Path) -> dict[Path, bytes]:
    """The files that are there, and what they hold, but for those of a notebook that was run by hand."""
    every = (path for name in ("results", "work", "reports") for path in (project / name).rglob("*"))
    return {path: path.read_bytes() for path in every if path.is_file() and "by-hand" not in path.parts}


@OTHERS
def test_transfer_from_clips_to_other_clips(project):
    for name in ("check", "prepare", "encode"):
        assert run(project, name, dataset="scenes") == 0
    assert run(project, "train", dataset="scenes") == 0
    assert run(project, "transfer", "transfer.heads=[glscl]", dataset="scenes") == 0
    assert set(found(project, "transfer", "scenes")["shifts"]) == {"stories"}


@OTHERS
@pytest.mark.parametrize("without", ["transfer.target=scenes", "inputs.backbone=finetuned", "transfer.heads=[]"])
def test_transfer_without_a_second_corpus_a_frozen_clip_or_heads_says_so(project, without):
    assert run(project, "transfer", without, dataset="scenes") == 0
    transfer = found(project, "transfer", "scenes")
    assert "no transfer" in transfer["answer"]
    assert transfer["shifts"] == {}


@OTHERS
def test_a_misspelt_parameter_is_refused_before_anything_runs(project, capsys):
    assert run(project, "prepare", "inputs.framse=3", dataset="scenes") == 1
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


@OTHERS
@pytest.mark.parametrize("kind", ["absent", "truncated", "zero bytes"])
def test_a_bad_video_stops_the_first_stage_and_is_named(project, broken, capsys, kind):
    (project / "results/corpora/scenes/check.json").unlink(missing_ok=True)
    video = broken(kind)
    assert run(project, "check", dataset="scenes") == 1
    error = capsys.readouterr().err
    assert video in error
    assert "1 of the test split" in error
    assert "check.max_missing" in error
    assert not (project / "results/corpora/scenes/check.json").exists()


@OTHERS
def test_names_that_do_not_match_are_explained(project, capsys):
    video = sorted((project / "data/scenes/videos").iterdir())[-1]
    renamed = video.rename(video.with_name(f"clip_{video.name}"))
    try:
        assert run(project, "check", dataset="scenes") == 1
    finally:
        renamed.rename(video)
    error = capsys.readouterr().err
    assert f"{renamed.name} lies where {video.name} is expected" in error


@OTHERS
def test_a_missing_video_within_the_budget_is_counted(project, broken):
    video = broken("absent")
    for stage_name, name in (("check", "check"), ("prepare", "data")):
        assert run(project, stage_name, "check.max_missing=1", dataset="scenes") == 0
        summary = json.loads((project / f"results/corpora/scenes/{name}.json").read_text())
        assert summary["missing"] == 1
        assert summary["missing_videos"][0][0] == video
        assert str(project) not in json.dumps(summary)
    captions = pd.read_parquet(project / "work/corpora/scenes/captions.parquet")
    assert video not in set(captions["video"])


@OTHERS
def test_a_few_own_videos_are_evaluated_and_searched_without_training(project, capsys, monkeypatch):
    monkeypatch.chdir(project)
    folder = project / "corpora/own"
    folder.mkdir(parents=True)
    captions = pd.read_csv(project / "data/scenes/captions.csv").query("split == 'test'").head(6)
    captions[["video", "caption"]].to_csv(folder / "captions.csv", index=False)
    for video in captions["video"]:
        shutil.copy(project / f"data/scenes/videos/{video}.mp4", folder)
    params, study = load_params(project), {path: path.read_bytes() for path in (project / "results").rglob("*.*")}
    params["own"] |= {"corpora": ["own"]}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    assert run(project, "own_check", f"methods={ON_VIDEOS}".replace("'", ""), dataset="own", profile="own") == 1
    assert "own.methods" in capsys.readouterr().err
    for name in ("check", "prepare", "encode", "evaluate", "search"):
        assert run(project, f"own_{name}", dataset="own", profile="own") == 0, name
    assert own.main(["own"]) == 0
    table = pd.read_csv(project / "results/own/own/table.csv")
    assert set(table["method"]) == {"zero-shot CLIP", "chance"}
    pages = project / "reports/own/own"
    assert (pages / "07_search.html").read_text().count("data:video/mp4;base64,") == 12
    assert all("has only seen drawings" in (pages / name).read_text() for name in ("index.html", "07_search.html"))
    written = {path for path in (project / "results").rglob("*.*") if path.read_bytes() != study.get(path)}
    assert {path.parent.name for path in written} == {"own"}, "results of the study changed"
    (folder / "captions.csv").unlink()
    assert run(project, "own_search", "search.queries=[a red circle]", dataset="own", profile="own") == 0
