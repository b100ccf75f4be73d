"""The command `glscl`: the walk of docs/search.md, its answers, and its errors in one sentence."""

import json
import shlex
import shutil
import sqlite3
from pathlib import Path

import pytest

from glscl import cli
from glscl.cli import main
from glscl.video_index import VideoIndex
from tests import ROOT
from tests.browser import Browser


def walk() -> list[str]:
    """The commands of the walk through ten clips."""
    section = (ROOT / "docs/search.md").read_text().split("## A walk")[1].split("\n## ")[0]
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]


def run(line: str) -> int:
    command, *arguments = shlex.split(line)
    if command == "glscl":
        return main(arguments)
    if command == "mkdir":
        Path(arguments[0]).mkdir()
    elif command == "cp":
        for file in Path().glob(arguments[0]):
            shutil.copy(file, arguments[1])
    elif command == "rm":
        Path(arguments[0]).unlink()
    else:
        raise AssertionError(f"the walk has a command that the test does not know: {line}")
    return 0


@pytest.fixture
def here(bundled, tmp_path, monkeypatch):
    """An empty folder with a link to the bundled inputs, as the working directory."""
    (tmp_path / "data").symlink_to(bundled)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_walk_of_the_page_about_search(here, capsys):
    said = {}
    for line in walk():
        assert run(line) == 0, line
        said[line] = capsys.readouterr()
    indexed, searched, told, again, found = (said[line] for line in said if line.startswith("glscl"))
    assert indexed.out.startswith("10 added, 0 updated, 0 unchanged, 0 unreadable, 0 gone")
    assert "drawn shapes" in indexed.err
    assert [line for line in searched.out.splitlines() if not line.startswith(" ")] == [
        "a red star",
        "a blue moon over the sea",
    ]
    assert searched.out.count(str(here / "my-videos")) == 6
    assert told.out.startswith("10 videos, 0.0 hours")
    assert again.out.startswith("1 added, 0 updated, 9 unchanged, 0 unreadable, 1 gone and dropped: 10 videos")
    hits = json.loads(found.out)["a red star"]
    assert len(hits) == 3
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    with Browser() as browser:
        browser.open(here / "found.html", settle=0.5)
        assert browser.errors == []
        assert browser.external_requests() == []
        assert browser.run("document.querySelectorAll('video').length") == 6
        browser.until("document.querySelector('video').currentTime > 0.2")
        assert "drawn shapes" in browser.run("document.body.innerText")


def test_what_fails_says_so_in_one_sentence(here, capsys):
    (here / "videos").mkdir()
    (here / "broken.mp4").write_text("no video")
    VideoIndex.create(here / "index", {"model": "", "method": "glscl", "fingerprint": "0", "frames": 4, "words": 8})
    for line, expected in {
        "glscl index videos --index new": "new is a new index, which needs a model: add --model FOLDER.",
        "glscl index videos --index new --model data/tiny-clip": "expected at least one video file",
        "glscl index broken.mp4 --index one --model data/tiny-clip": "1 of 1 files cannot be read",
        "glscl index broken.mp4 --index videos/.. --model data/tiny-clip": "an index needs a folder of its own",
        "glscl search videos star": "videos holds no index",
        "glscl search index star": "index does not say where its model lies",
        "glscl info nowhere": "nowhere holds no index",
        "glscl search nowhere.db star": "nowhere.db holds no index",
    }.items():
        assert run(line) == 1, line
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("glscl: "), line
        assert expected in error, line
    assert not (here / "new/shard-000000.safetensors").exists()
    for line in ("glscl", "glscl search index", "glscl index videos"):
        with pytest.raises(SystemExit, match="2"):
            run(line)


def test_a_full_disk_is_told_in_one_sentence(tmp_path, capsys, monkeypatch):
    def index(arguments):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(cli, "index", index)
    assert main(["index", "videos", "--index", str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err.startswith(f"glscl: the disk of {tmp_path} is full: ")


def test_info_lists_every_file(here, capsys):
    (here / "videos").mkdir()
    shutil.copy(here / "data/scenes/videos/scenes2000.mp4", here / "videos")
    (here / "videos/broken.mp4").write_text("no video")
    assert run("glscl index videos --index index --model data/tiny-clip --frames 4") == 0
    assert "broken.mp4 cannot be read as a video" in capsys.readouterr().err
    assert run("glscl info index") == 0
    assert "1 videos" in (out := capsys.readouterr().out)
    assert "unreadable: 1" in out
    assert run("glscl info index --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["about"]["frames"] == 4
    assert {Path(file["path"]).name: bool(file["reason"]) for file in told["files"]} == {
        "scenes2000.mp4": False,
        "broken.mp4": True,
    }


def test_shares_are_published_and_searched_at_an_address(here, capsys):
    pytest.importorskip("pymilvus")
    (here / "videos").mkdir()
    for number in range(5):
        shutil.copy(here / f"data/scenes/videos/scenes200{number}.mp4", here / "videos")
    for part in (1, 2):
        assert run(f"glscl index videos --index part-{part} --model data/tiny-clip --frames 4 --shard {part}/2") == 0
    assert run("glscl publish part-1 part-2 --to videos.db") == 0
    assert run("glscl publish part-1 part-2 --to videos.db") == 0
    said = capsys.readouterr().out.splitlines()[-4:]
    assert sum(int(line.split()[1]) for line in said[:2]) == 5
    assert sum(int(line.split()[3]) for line in said[2:]) == 5
    assert run(f"glscl search videos.db star --json --folder {here / 'videos'} --shortest 0.1 --since 2020-01-01") == 0
    assert len(json.loads(capsys.readouterr().out)["star"]) == 5
    assert run("glscl search videos.db star --json --before 2020-01-01 --candidates 3") == 0
    assert json.loads(capsys.readouterr().out)["star"] == []
    assert run("glscl info videos.db") == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 5
    assert run("glscl search videos.db star --since yesterday") == 1
    assert "a time must be like 2026-01-31" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run("glscl index videos --index part-3 --shard 3of16")
