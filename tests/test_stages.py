"""Single stages on small corpora: transfer, bad inputs, and videos of one's own."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from benchmarks.small_study import ON_VIDEOS
from glscl.study import own
from glscl.study.parameters import load_params
from tests.small_project import found, run

pytestmark = pytest.mark.pipeline


def test_transfer_from_clips_to_other_clips(project):
    for name in ("check", "prepare", "encode"):
        assert run(project, name, dataset="scenes") == 0
    assert run(project, "train", dataset="scenes") == 0
    assert run(project, "transfer", "transfer.heads=[glscl]", dataset="scenes") == 0
    assert set(found(project, "transfer", "scenes")["shifts"]) == {"stories"}


@pytest.mark.parametrize("without", ["transfer.target=scenes", "inputs.backbone=finetuned", "transfer.heads=[]"])
def test_transfer_without_a_second_corpus_a_frozen_clip_or_heads_says_so(project, without):
    assert run(project, "transfer", without, dataset="scenes") == 0
    transfer = found(project, "transfer", "scenes")
    assert "no transfer" in transfer["answer"]
    assert transfer["shifts"] == {}


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


def test_names_that_do_not_match_are_explained(project, capsys):
    video = sorted((project / "data/scenes/videos").iterdir())[-1]
    renamed = video.rename(video.with_name(f"clip_{video.name}"))
    try:
        assert run(project, "check", dataset="scenes") == 1
    finally:
        renamed.rename(video)
    error = capsys.readouterr().err
    assert f"{renamed.name} lies where {video.name} is expected" in error


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
