"""The explorer: its queries, galleries and comparisons on a made-up pipeline, and the notebook in JupyterLab."""

import html
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from glscl.bundled.facets import VALUES, Noise, Texts, make, word_features
from glscl.files import write_table
from glscl.study import code, explore, explore_models
from glscl.study.explore import Chosen
from glscl.study.explore_models import Opened
from glscl.study.parameters import load_params
from tests import ROOT
from tests.study import made_up_explorer as made_up
from tests.study.jupyter_lab import notebook

HOSTILE = "<script>alert('x')</script> & co"


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """Folder of a made-up finished pipeline."""
    root = tmp_path_factory.mktemp("explored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made_up.write(root, corpus["work"])
    return root


@pytest.fixture
def project(finished, monkeypatch):
    """The same as the current folder."""
    monkeypatch.chdir(finished)
    return finished


def chosen(profile: str = "quick", dataset: str = "scenes") -> Chosen:
    return Chosen.of(made_up.params(), profile, dataset)


def ranks_of(runs: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Ranks from 0 of made-up runs, {method: (seeds, queries)}."""
    parts = [
        pd.DataFrame({"method": method, "split": "test", "seed": seed, "direction": "t2v", "rank": rank})
        for method, of_seeds in runs.items()
        for seed, rank in enumerate(of_seeds)
    ]
    return pd.concat(parts).astype({"seed": "Int64"})


def table_of(texts: list[str]) -> pd.DataFrame:
    captions = pd.DataFrame({"text": texts, "video": [f"v{i}" for i in range(len(texts))], "split": "test"})
    return explore.queries(captions, None)


# --- what is there


def test_a_finished_pipeline_misses_nothing_and_is_opened_first(project):
    assert explore.missing(chosen()) == ""
    assert explore.first_finished(load_params()) == ("quick", "facets")


def test_what_is_missing_is_said_in_one_sentence_with_its_command(project, tmp_path):
    said = explore.missing(chosen("full", "facets"))
    assert said == (
        "work/full/facets/train/mean/seed-0 is not there yet; "
        "run `dvc repro full_evaluate@full-features-facets`, which makes it."
    )
    alone = chosen()._replace(methods=["glscl"])
    assert explore.missing(alone).startswith("Two methods are compared here, and profile quick trains glscl on scenes;")
    away = chosen()._replace(corpus={"folder": "data/gone"})
    assert explore.missing(away) == "The videos of scenes are not in data/gone; run `dvc pull data.dvc`."
    elsewhere = chosen()._replace(corpus={"folder": "corpora/msrvtt"})
    assert explore.missing(elsewhere).endswith("docs/data.md says how to get it.")


@pytest.mark.parametrize("missing", ["ranks.parquet", "train/glscl/seed-1"])
def test_every_part_of_a_pipeline_is_looked_for(project, tmp_path, monkeypatch, missing):
    shutil.copytree(project, tmp_path / "part", symlinks=True)
    monkeypatch.chdir(tmp_path / "part")
    path = Path("work/quick/facets") / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    said = explore.missing(chosen(dataset="facets"))
    assert said == f"{path} is not there yet; run `dvc repro evaluate@quick-features-facets`, which makes it."
    assert explore.first_finished(load_params()) == ("quick", "scenes")


@pytest.mark.parametrize("profile", ["quick", "full"])
@pytest.mark.parametrize("dataset", ["facets", "scenes"])
def test_the_command_names_a_stage_of_dvc_yaml(profile, dataset):
    params = load_params(ROOT)
    one = Chosen.of(params, profile, dataset)
    name, _, items = one.stage.partition("@")
    matrix = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]["matrix"]
    assert list(matrix) == ["profile", "world", "dataset"]  # of which DVC makes the name
    assert (matrix["profile"], matrix["world"]) == ([profile], [one.world])
    assert items == f"{profile}-{one.world}-{dataset}"


# --- queries


def test_queries_say_what_is_told_and_shown(project):
    table = Opened(chosen()).queries
    row = table.iloc[0]
    listed = pd.read_csv("data/scenes/captions.csv").query("video == @row.video and split == 'test'").iloc[0]
    assert (row["text"], row["told"]) == (listed["caption"], listed["told"])
    assert row["words"] == len(row["text"].split())
    assert row["events"] == listed["told"].count("|") + 1
    shown = pd.read_csv("data/scenes/events.csv").query("video == @row.video")
    for factor in ("shape", "colour", "motion", "distractor"):
        assert {f"shows {factor}={value}" for value in shown[factor]} <= row["facts"]
    assert f"tells {listed['told'].split(';')[0]}" in row["facts"]
    assert "tells of shape" in row["facts"]


def test_facets_tell_by_their_own_table_and_other_corpora_nothing(project):
    facets = Opened(chosen(dataset="facets")).queries
    assert (facets["events"] == made_up.SMALL.concepts).all()
    assert not any(fact.startswith("shows") for facts in facets["facts"] for fact in facts)
    plain = table_of(["a red star", "a ball"])
    assert plain["events"].tolist() == [0, 0]
    assert explore.fact_options(plain) == ["any"]


def test_filters_keep_length_events_and_facts():
    table = table_of(["a b c", "a b", "a"]).assign(events=[1, 2, 2], facts=[{"x"}, {"x", "y"}, set()])
    assert explore.fact_options(table) == ["any", "x", "y"]
    assert explore.filtered(table, (2, 3), "any", "any").index.tolist() == [0, 1]
    assert explore.filtered(table, (1, 3), 2, "any").index.tolist() == [1, 2]
    assert explore.filtered(table, (1, 3), "any", "x").index.tolist() == [0, 1]
    assert explore.filtered(table, (3, 3), 2, "y").empty


def test_disagreements_are_ordered_by_the_ratio_of_ranks_from_1():
    ranks = ranks_of({"mean": [[0, 9, 99, 4], [5, 5, 5, 5]], "glscl": [[49, 9, 149, 0], [5, 5, 5, 5]]})
    table = explore.disagreements(table_of(list("abcd")), ranks, "mean", "glscl", 0)
    assert table.index.tolist() == [0, 3, 2, 1]
    assert table["one"].tolist() == [1, 5, 100, 10]
    assert table["other"].tolist() == [50, 1, 150, 10]
    assert table["times"].tolist() == [50, 5, 1.5, 1]
    assert explore.row_text(table.loc[0]) == "      1      50   a"
    with pytest.raises(ValueError, match=r"of 1 test texts, got 4; run the evaluate stage again\.$"):
        explore.disagreements(table_of(["a"]), ranks, "mean", "glscl", 0)


# --- models


@pytest.mark.parametrize("dataset", ["scenes", "facets"])
def test_a_gallery_gives_the_right_video_the_rank_of_the_evaluate_stage(project, dataset):
    opened = Opened(chosen(dataset=dataset))
    table = explore.disagreements(opened.queries, opened.ranks, "mean", "glscl", 1)
    for row in (0, 7):
        kept = opened.of_query("glscl", 1, row)
        found = explore_models.best_videos(kept["best"], kept["scores"], kept["video"])
        assert kept["video"] == opened.queries["video"][row]
        assert found.loc[found["right"], "place"].tolist() == [p for p in [table.loc[row, "other"]] if p <= 10]
        assert found["score"].is_monotonic_decreasing
    assert not opened.searcher.cache_info().currsize  # nothing is computed again


def test_a_typed_caption_finds_what_the_caption_finds(project):
    opened = Opened(chosen())
    searcher = opened.searcher("glscl", 0)
    typed = searcher.of_sentence(opened.queries["text"][3])
    kept, places = opened.of_query("glscl", 0, 3), {video: i for i, video in enumerate(opened.test.videos)}
    found = typed[[places[video] for video in kept["best"]]]
    assert found.tolist() == pytest.approx(kept["scores"].tolist(), abs=2e-3)  # features are kept in half precision
    galleries, remark = opened.search("a red star moves", ["mean", "glscl"], 0, 2)
    assert remark == ""
    assert [gallery.count("<video ") for gallery in galleries] == [2, 2]
    assert galleries[0].startswith("<h3>mean</h3>")


def test_ranks_without_the_best_videos_are_refused_in_one_sentence(project, monkeypatch):
    ranks = explore.read_ranks(chosen().folders.work).drop(columns=["best", "scores"])
    monkeypatch.setattr(explore_models, "read_ranks", lambda folder: ranks)
    with pytest.raises(ValueError, match=r"ranks\.parquet is of an older version, .*; run `dvc repro .*`\.$"):
        Opened(chosen())


def test_features_have_no_clips_and_no_new_sentences(project):
    opened = Opened(chosen(dataset="facets"))
    text = opened.queries["text"][5]
    galleries, remark = opened.search(f"{text} now", ["mean", "glscl"], 0, 4)
    assert f"that shares most words with it, {text!r}." in remark
    assert explore_models.NO_CLIPS in remark
    assert "<video" not in galleries[1]
    assert galleries[1].count("<tr") == 5
    assert galleries[0] == opened.gallery("mean", 0, 5, 4)
    assert opened.strip(opened.queries["video"][5]) == ""


def test_all_text_of_a_gallery_is_escaped(project):
    found = pd.DataFrame({"place": [1], "video": [HOSTILE], "score": [0.5], "right": [True]})
    shown = explore_models.gallery_html(HOSTILE, found, {}, pd.Series({HOSTILE: HOSTILE}))
    assert "<script>" not in shown
    assert shown.count(html.escape(HOSTILE)) == 3
    clip = next(Path("data/scenes/videos").glob("*.mp4"))
    shown = explore_models.gallery_html(HOSTILE, found, {HOSTILE: str(clip)}, pd.Series())
    assert "<script>" not in shown
    assert "<video " in shown
    assert f"1. {html.escape(HOSTILE)}, 0.50, the right video" in shown


def test_the_words_of_facets_stand_where_their_features_stand():
    world, rng = make(made_up.SMALL), np.random.default_rng(0)
    one = Texts(*(part[:1] for part in world.texts["test"]))._replace(noise=np.zeros(1, int))
    noise = Noise.draw(1, made_up.SMALL.words, made_up.SMALL.width, rng)
    told = world.captions().query("split == 'test'")["told"].iloc[0]
    names = explore_models.spoken_words(told, {"ordered": True})
    assert (len(names), names[0], names[-1]) == (made_up.SMALL.words, "[start]", "[end]")
    assert names.count("then") == made_up.SMALL.concepts - 1
    before = word_features(made_up.SMALL, one, noise)[0]
    for factor in np.flatnonzero(one.told[0, 1]):
        values = one.values.copy()
        values[0, 1, factor] = (values[0, 1, factor] + 1) % len(VALUES[factor])
        features = word_features(made_up.SMALL, one._replace(values=values), noise)[0]
        first = np.flatnonzero((features != before).any(-1))[0]
        assert names[first] == VALUES[factor][one.values[0, 1, factor]]
        assert first > names.index("then")


@pytest.mark.parametrize("dataset", ["scenes", "facets"])
def test_looks_are_weights_that_add_up(project, dataset):
    opened = Opened(chosen(dataset=dataset))
    looks = opened.looks(0, 2)
    assert looks.frames.sum() == pytest.approx(1, abs=1e-5)
    for panel in (looks.on_words, looks.on_frames):
        assert len(panel) == made_up.SIZES["num_queries"]
        np.testing.assert_allclose(panel.sum(axis=1), 1, atol=1e-5)
    text = opened.queries["text"][2]
    said = [name for name in looks.on_words.columns if not name.startswith("[")]
    assert "".join(said) == text.replace(" ", "") if dataset == "scenes" else "then" in said
    drawn = looks.attention_figure()
    assert drawn.data[0].x[0] == "1 [start]"
    assert len(set(drawn.data[0].x)) == len(looks.on_words.columns)
    assert list(looks.weights_figure().data[0].y) == pytest.approx(looks.frames.tolist())
    with pytest.raises(ValueError, match=r"frame weights and concepts are GLSCL's, got MeanPooling; choose glscl\.$"):
        explore_models.looks_of(opened.searcher("mean", 0), 2, 2, looks.on_words)


def test_the_frames_of_a_clip_are_an_image(project):
    opened = Opened(chosen())
    assert opened.strip(opened.queries["video"][0]).startswith('<img src="data:image/jpeg;base64,')


# --- two folders


def folder_of(root: Path, profile: str, runs: dict[str, list[list[float]]], texts: list[str]) -> Path:
    """work/<profile>/made with ranks, and the captions of its corpus."""
    captions = pd.DataFrame({"text": texts, "video": [f"v{i}" for i in range(len(texts))], "split": "test"})
    write_table(root / "work/corpora/made/captions.parquet", captions)
    write_table(root / f"work/{profile}/made/ranks.parquet", ranks_of(runs))
    return root / f"work/{profile}/made"


def test_folders_are_compared_over_the_seeds_of_both(tmp_path):
    one = folder_of(tmp_path / "a", "full", {"glscl": [[0, 0, 3, 1], [0, 0, 0, 1], [9, 9, 9, 9]]}, list("abcd"))
    other = folder_of(tmp_path / "b", "quick", {"x_clip": [[0, 2, 3, 0], [0, 2, 3, 1]]}, list("abcd"))
    found = explore.compare_folders((one, "glscl"), (other, "x_clip"))
    assert found.seeds == [0, 1]
    assert found.effect["difference"] == pytest.approx(100 * (2 + 1 - 1) / 8)
    assert found.effect["low"] < found.effect["difference"] < found.effect["high"]
    assert found.table["text"].tolist() == ["b", "c", "a", "d"]
    assert found.table["points"].tolist() == [100, 50, 0, -50]
    assert found.table["one"].tolist() == [1, 2.5, 1, 2]
    assert found.sentence().startswith("One minus other: R@1 25.0 [")
    assert "over 4 queries and seeds 0, 1; p = " in found.sentence()
    itself = explore.compare_folders((one, "glscl"), (one, "glscl"), "mAP@10")
    assert (itself.effect["difference"], itself.effect["p"]) == (0, 1)


def test_a_row_without_seeds_stands_beside_every_seed(tmp_path):
    runs = {"glscl": [[0, 1], [0, 0]], "zero-shot CLIP": [[1, 1]]}
    folder = folder_of(tmp_path, "quick", runs, ["a", "b"])
    ranks = pd.read_parquet(folder / "ranks.parquet")
    ranks.loc[ranks["method"] == "zero-shot CLIP", "seed"] = pd.NA
    write_table(folder / "ranks.parquet", ranks)
    assert explore.methods_of(folder) == ["glscl", "zero-shot CLIP"]
    found = explore.compare_folders((folder, "glscl"), (folder, "zero-shot CLIP"))
    assert found.seeds == [0, 1]
    assert found.effect["difference"] == 75


def test_folders_that_cannot_be_compared_are_refused_in_one_sentence(tmp_path):
    one = folder_of(tmp_path / "a", "quick", {"glscl": [[0, 1]]}, ["a", "b"])
    other = folder_of(tmp_path / "b", "quick", {"glscl": [[0, 1]]}, ["a", "c"])
    with pytest.raises(ValueError, match=r"both folders need the same test texts, .*; compare runs on one corpus\.$"):
        explore.compare_folders((one, "glscl"), (other, "glscl"))
    with pytest.raises(FileNotFoundError, match=r"should hold ranks\.parquet, which is absent; run its evaluate stage"):
        explore.methods_of(tmp_path)
    apart = pd.read_parquet(one / "ranks.parquet").assign(method="late").assign(seed=7).astype({"seed": "Int64"})
    write_table(one / "ranks.parquet", pd.concat([pd.read_parquet(one / "ranks.parquet"), apart]))
    with pytest.raises(ValueError, match=r"a seed in common, got \[0\] and \[7\]; train one\.$"):
        explore.compare_folders((one, "glscl"), (one, "late"))
    with pytest.raises(ValueError, match="runs of x_pool on test"):
        explore.compare_folders((one, "x_pool"), (one, "glscl"))
    (one.parents[1] / "corpora/made/captions.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs the captions of its corpus in .*; run its prepare stage\.$"):
        explore.compare_folders((one, "glscl"), (one, "glscl"))


# --- the notebook


def written(root: Path) -> dict[str, int]:
    """Every file under work/ and results/ with the time of its last change."""
    files = [path for name in ("work", "results") for path in (root / name).rglob("*")]
    return {str(path): path.stat().st_mtime_ns for path in files}


def said(box) -> str:
    """The HTML of all widgets in a box."""
    return "".join(said(child) if hasattr(child, "children") else getattr(child, "value", "") for child in box.children)


def test_the_widgets_show_what_is_chosen(project):
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: no explorer")
    from glscl.study.explore_widgets import Explorer

    before = written(project)
    shown = Explorer()
    assert said(shown.state) == "<p>12 test texts; ranks of 2 methods.</p>"
    assert (shown.one.value, shown.other.value, shown.list.value) == ("glscl", "mean", None)
    assert len(shown.list.options) == 1 + 12
    shown.sentence.value = HOSTILE
    assert explore_models.NO_CLIPS in said(shown.found)
    assert "<script>" not in said(shown.found)
    shown.list.value = shown.list.options[3][1]
    assert said(shown.pair).count("<h3>") == 2
    assert [len(output.outputs) for output in shown.pair.children[-2:]] == [1, 1]
    shown.best.value = 12
    assert said(shown.pair).count("right video") == 2
    shown.events.value = made_up.SMALL.concepts
    assert shown.list.value is None
    assert said(shown.pair) == ""
    shown.profile.value = "full"
    assert "run `dvc repro full_evaluate@full-features-facets`" in said(shown.state)
    assert (shown.list.options, said(shown.found)) == ((), "")
    shown.profile.value = "quick"
    assert len(shown.list.options) == 1 + 12
    assert written(project) == before


def test_without_any_run_the_widgets_name_the_command(tmp_path, monkeypatch):
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: no explorer")
    from glscl.study.explore_widgets import Explorer, FolderComparison

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(made_up.params()))
    shown = Explorer()
    assert said(shown.state).count("is not there yet; run `dvc repro ") == 1
    assert shown.list.options == ()
    compared = FolderComparison()
    compared.button.click()
    assert said(compared.result).startswith("<p>a comparison needs a method of each folder;")


def test_two_folders_are_chosen_and_trouble_is_one_sentence(project):
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: no explorer")
    from glscl.study.explore_widgets import FolderComparison

    shown = FolderComparison()
    (_, first, _), (folder, method, trouble) = shown.sides
    assert list(folder.options) == ["work/quick/facets", "work/quick/scenes"]
    first.value, method.value = "glscl", "mean"
    shown.button.click()
    assert said(shown.result).startswith("<p>One minus other: R@1 ")
    assert said(shown.result).count("<table") == 2
    folder.value = "work/quick/scenes"
    shown.button.click()
    assert "both folders need the same test texts" in said(shown.result)
    folder.value = "<b>nowhere</b>"
    assert said(trouble).startswith("<p>&lt;b&gt;nowhere&lt;/b&gt; should hold ranks.parquet, which is absent;")
    shown.button.click()
    assert said(shown.result).startswith("<p>a comparison needs a method of each folder;")


def test_the_explorer_is_hashed_for_no_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "hash_of", lambda *_: "hash")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    code.write_hashes(tmp_path)
    hashed = {path.stem for path in (tmp_path / "work/code").glob("*.txt")}
    stages = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} - {"explore"}
    assert hashed == stages | {"notebooks"}  # the last is of what all notebooks say


@pytest.mark.slow
def test_the_notebook_in_jupyterlab(project, tmp_path):
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: no explorer")
    shutil.copytree(ROOT / "notebooks", project / "notebooks", dirs_exist_ok=True)
    before = written(project)
    with notebook(project, tmp_path, "explore.ipynb", height=2300) as page:
        page.run_all()
        page.until("document.body.innerText.includes('12 test texts; ranks of 2 methods.')")
        assert "12 of 12 queries, the first 12 listed" in page.text()

        page.choose("dataset", "scenes")
        page.until("[...document.querySelectorAll('option')].some(option => option.text.startsWith('shows'))")
        page.click("document.querySelector('.widget-text input[placeholder]')")
        page.browser.type("a red star <b>moves</b> to the left")
        page.until("document.querySelectorAll('video').length === 6")
        page.until("[...document.querySelectorAll('video')].every(clip => clip.readyState >= 2 && !clip.paused)")

        page.click("document.querySelectorAll('.queries option')[1]")
        page.until("document.querySelectorAll('.js-plotly-plot').length === 2")
        assert page.browser.run("document.querySelectorAll('video').length") == 12
        assert "Where glscl looks in this text and in its own video" in page.text()
        page.browser.screenshot(tmp_path / "explore.png", whole=False)

        fact = page.browser.run("[...document.querySelectorAll('option')].find(o => o.text.startsWith('tells')).text")
        page.choose("fact", fact)
        page.until("!document.body.innerText.includes('12 of 12 queries')")
        assert page.browser.run("document.querySelectorAll('.js-plotly-plot').length") == 0

        page.click("document.querySelector('button.jupyter-button')")
        page.until("document.body.innerText.includes('One minus other: R@1 0.0 [0.0, 0.0] points')")

        page.choose("profile", "full")
        page.until("document.body.innerText.includes('run `dvc repro full_videos_evaluate@full-videos-scenes`')")
        # on a busy machine JupyterLab's server cannot list a kernel that is just starting, before any cell runs
        assert [error for error in page.browser.errors if "/api/kernels?" not in error] == []
    assert written(project) == before
