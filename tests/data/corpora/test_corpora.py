"""Annotation files -> one table: made-up corpora in the study's format and MSR-VTT's, and their faults."""

import csv
import hashlib
import json

import pandas as pd
import pytest

from glscl.data.corpora import COLUMNS, annotation_hashes, read_corpus


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    """Let a made-up corpus be smaller than the benchmark whose format it has."""
    monkeypatch.setattr("glscl.data.corpora.counts.COUNTED", {})


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def bundled(folder, *rows, header=("split", "video", "caption")):
    write_csv(folder / "captions.csv", header, rows)
    return folder


def write_msrvtt(folder, train=510, test=3, captions=2, partition="9k"):
    """Write a made-up MSR-VTT in the community's format; the captions are interleaved over the videos."""
    videos = [f"video{index}" for index in range(train + test)]
    splits = dict.fromkeys(videos, "test") | dict.fromkeys(videos[:train], "train") | {videos[0]: "validate"}
    sentences = [
        {"caption": f"{video} caption {turn}", "video_id": video, "sen_id": 0}
        for turn in range(captions)
        for video in videos
    ]
    folder.mkdir(exist_ok=True)
    entries = [{"video_id": video, "split": split, "start time": 0.5} for video, split in splits.items()]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": entries, "sentences": sentences}))
    write_csv(folder / f"MSRVTT_train.{partition}.csv", ["video_id"], [[video] for video in videos[:train]])
    rows = [[f"ret{k}", f"msr{k}", video, f"its own sentence {k}"] for k, video in enumerate(videos[train:])]
    write_csv(folder / "MSRVTT_JSFUSION_test.csv", ["key", "vid_key", "video_id", "sentence"], rows)
    return folder


def append(name, text):
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


def test_bundled_table_keeps_file_order_and_ignores_other_columns(tmp_path):
    header = ("caption", "video", "colour", "split")
    rows = [("b", "v2", "red", "test"), ("a", "v1", "blue", "train"), ("c", "v2", "red", "test_multi")]
    table = read_corpus("scenes", bundled(tmp_path, *rows, header=header))
    assert list(table.columns) == COLUMNS
    assert table[["split", "video", "text"]].values.tolist() == [[r[3], r[1], r[0]] for r in rows]
    assert table["path"].tolist() == [str(tmp_path / "videos" / f"{row[1]}.mp4") for row in rows]
    assert table["caption_id"].tolist() == [0, 1, 2]
    assert table[["start", "end"]].isna().all(axis=None)


TEXTS = ["a 🎬 dog", "<b>bold</b> & <script>alert(1)</script>", "word " * 500, "NA", ' a "quoted", text\n']


@pytest.mark.parametrize("text", TEXTS)
def test_captions_pass_unchanged(tmp_path, text):
    assert read_corpus("stories", bundled(tmp_path, ("train", "v", text)))["text"].tolist() == [text]


def test_byte_order_mark_and_duplicate_captions_are_allowed(tmp_path):
    text = "split,video,caption\ntrain,v,a dog\ntrain,v,a dog\n"
    (tmp_path / "captions.csv").write_text(text, encoding="utf-8-sig")
    assert read_corpus("scenes", tmp_path)["text"].tolist() == ["a dog", "a dog"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("train", "v1", "a dog"), ("train", "v2", " ")], r"row 2 of .*captions\.csv has an empty caption"),
        ([("train", "", "a dog")], r"row 1 of .*captions\.csv has an empty video"),
        ([("train", "v1", "a dog", " runs")], "row 1 .* 3 fields: quote captions"),
        ([("train", "v1")], "row 1 .* 3 fields"),
        ([("training", "v1", "a dog")], "split named 'training'"),
        ([("train", "v1", "a dog"), ("test", "v1", "a cat")], "video 'v1' of scenes is in train and test"),
        ([("val", "v1", "a dog"), ("test_multi", "v1", "a cat")], "video 'v1' of scenes is in val and test"),
        ([("train", "../v1", "a dog")], "plain file name"),
        ([("train", "a/../../v1", "a dog")], "plain file name"),
        ([("train", "/etc/passwd", "a dog")], "plain file name"),
        ([("train", "a\\v1", "a dog")], "plain file name"),
        ([("train", "..", "a dog")], "plain file name"),
        ([], "has no rows"),
    ],
)
def test_faulty_rows_are_errors_that_name_the_row(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_corpus("scenes", bundled(tmp_path, *rows))


def test_test_multi_and_twins_may_share_videos_with_test(tmp_path):
    folder = bundled(tmp_path, ("test", "v", "a"), ("test_multi", "v", "b"), ("twin_order", "v", "c"))
    assert "of" not in read_corpus("scenes", folder)
    captions = pd.read_csv(folder / "captions.csv")
    captions.assign(of=pd.array([None, None, 0], dtype="Int64")).to_csv(folder / "captions.csv", index=False)
    table = read_corpus("scenes", folder)
    assert table["split"].tolist() == ["test", "test_multi", "twin_order"]
    assert table["of"].iloc[2] == table["caption_id"].iloc[0]


def test_missing_file_column_dataset_and_setting_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"captions\.csv .*dvc pull"):
        read_corpus("scenes", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"MSRVTT_data\.json .*docs/data\.md"):
        read_corpus("msrvtt", tmp_path)
    bundled(tmp_path, ("train", "v"), header=("split", "video"))
    with pytest.raises(ValueError, match=r"needs a column 'caption' and has split, video"):
        read_corpus("scenes", tmp_path)
    with pytest.raises(ValueError, match="unknown dataset 'msrvt': the known ones are scenes, stories, msrvtt"):
        read_corpus("msrvt", tmp_path)
    with pytest.raises(ValueError, match="no setting named 'partitoin': it takes partition"):
        read_corpus("msrvtt", tmp_path, partitoin="9k")
    with pytest.raises(ValueError, match="no setting named 'partition': it takes none"):
        read_corpus("scenes", tmp_path, partition="9k")
    with pytest.raises(ValueError, match="9k, 7k, full, mini, not '8k'"):
        read_corpus("msrvtt", tmp_path, partition="8k")


@pytest.mark.parametrize(
    "content", [b"split,video,caption\ntrain,v,caf\xe9\n", b'split,video,caption\ntrain,v,"open\n']
)
def test_file_that_is_no_utf8_csv(tmp_path, content):
    (tmp_path / "captions.csv").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        read_corpus("scenes", tmp_path)


def test_links_that_the_owner_of_the_folder_made_are_followed(tmp_path):
    corpus, outside = bundled(tmp_path / "corpus", ("train", "v", "a dog")), tmp_path / "outside"
    outside.mkdir()
    (outside / "v.mp4").touch()
    (corpus / "videos").symlink_to(outside)
    assert read_corpus("scenes", corpus)["path"].tolist() == [str(corpus / "videos/v.mp4")]
    (corpus / "videos").unlink()
    (corpus / "videos").mkdir()
    (corpus / "videos/v.mp4").symlink_to(outside / "v.mp4")
    assert read_corpus("scenes", corpus)["path"].tolist() == [str(corpus / "videos/v.mp4")]
    captions = corpus / "captions.csv"
    captions.rename(outside / "0a1b")
    captions.symlink_to(outside / "0a1b")  # so does DVC's cache, with cache.type symlink
    assert read_corpus("scenes", corpus)["path"].tolist() == [str(corpus / "videos/v.mp4")]


def test_msrvtt_holds_out_validation_videos_from_training(tmp_path):
    table = read_corpus("msrvtt", write_msrvtt(tmp_path))
    assert table["split"].value_counts(sort=False).to_dict() == {"train": 20, "val": 500, "test": 3}
    videos = {split: set(rows["video"]) for split, rows in table.groupby("split")}
    assert videos["train"] | videos["val"] == {f"video{index}" for index in range(510)}
    val = table[table["split"] == "val"]
    assert (val["text"] == val["video"] + " caption 0").all()
    assert table["text"].tolist()[-3:] == [f"its own sentence {k}" for k in range(3)]
    assert table["caption_id"].tolist() == list(range(523))


def test_msrvtt_validation_does_not_depend_on_the_order_of_the_list(tmp_path):
    first = read_corpus("msrvtt", write_msrvtt(tmp_path))
    path = tmp_path / "MSRVTT_train.9k.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]))
    assert read_corpus("msrvtt", tmp_path).equals(first)


def test_msrvtt_full_is_the_split_of_the_data_file_with_every_caption(tmp_path):
    table = read_corpus("msrvtt", write_msrvtt(tmp_path, train=4, test=2), partition="full")
    found = {split: rows[["video", "text"]].values.tolist() for split, rows in table.groupby("split")}
    pairs = {video: [[video, f"{video} caption {turn}"] for turn in (0, 1)] for video in table["video"]}
    assert found["val"] == pairs["video0"]
    assert sorted(found["test"]) == pairs["video4"] + pairs["video5"]
    assert sorted(found["train"]) == pairs["video1"] + pairs["video2"] + pairs["video3"]
    assert list(annotation_hashes("msrvtt", tmp_path, partition="full")) == ["MSRVTT_data.json"]


def test_msrvtt_full_refuses_a_split_that_it_does_not_know(tmp_path):
    path = write_msrvtt(tmp_path) / "MSRVTT_data.json"
    path.write_text(path.read_text().replace('"validate"', '"hidden"'))
    with pytest.raises(ValueError, match=r"split .*'hidden' .* of video 'video0'"):
        read_corpus("msrvtt", tmp_path, partition="full")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda folder: write_msrvtt(folder, train=500), "more than 500 videos"),
        (lambda folder: (folder / "MSRVTT_data.json").write_text("{"), r"MSRVTT_data\.json needs a JSON object"),
        (lambda folder: (folder / "MSRVTT_data.json").write_text('{"sentences": [{"caption": "a"}]}'), "'video_id'"),
        (append("MSRVTT_train.9k.csv", "video999\n"), "1 listed .* first 'video999'"),
        (append("MSRVTT_train.9k.csv", "video7\n"), "names 'video7' twice"),
        (append("MSRVTT_JSFUSION_test.csv", "r,m,video7,\n"), "row 4 .* empty sent"),
        (
            append("MSRVTT_JSFUSION_test.csv", "r,m,video7,a dog\n"),
            "'video7' of .* in",
        ),
    ],
)
def test_msrvtt_faults(tmp_path, fault, message):
    fault(write_msrvtt(tmp_path))
    with pytest.raises(ValueError, match=message):
        read_corpus("msrvtt", tmp_path)


def test_an_empty_msrvtt_caption_names_its_row_in_the_file(tmp_path):
    path = write_msrvtt(tmp_path) / "MSRVTT_data.json"
    data = json.loads(path.read_text())
    data["sentences"][4]["caption"] = None
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"row 5 of .*MSRVTT_data\.json has an empty caption"):
        read_corpus("msrvtt", tmp_path)


def test_annotation_hashes_are_those_of_the_files(tmp_path):
    write_msrvtt(tmp_path, partition="7k")
    hashes = annotation_hashes("msrvtt", tmp_path, partition="7k")
    assert list(hashes) == ["MSRVTT_data.json", "MSRVTT_train.7k.csv", "MSRVTT_JSFUSION_test.csv"]
    for name, value in hashes.items():
        assert value == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    with pytest.raises(FileNotFoundError, match=r"captions\.csv"):
        annotation_hashes("scenes", tmp_path)
