"""Made-up corpora in the formats of the other benchmarks: protocols, splits, counts, and the faults of their files."""

import csv
import json

import pytest

from glscl.data.corpora import annotation_hashes, read_corpus

LISTS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let a made-up corpus be smaller than the benchmark whose format it has; two videos are held out."""
    monkeypatch.setattr("glscl.data.corpora.reading.VALIDATION_VIDEOS", 2)
    monkeypatch.setattr("glscl.data.corpora.counts.COUNTED", {})
    monkeypatch.setattr("glscl.data.corpora.counts.PUBLISHED", {})


def write_json(path, content):
    path.write_text(json.dumps(content))


def write_lists(folder, train="ab", val="c", test="de"):
    for split, ids in zip(LISTS, (train, val, test), strict=True):
        (folder / f"{split}_list.txt").write_text("\n".join(ids) + "\n")
    return folder


CAPTIONS = {video: [f"{video} one", f"{video} two"] for video in "abcdef"}
TWO_EACH = {"train": ["a one", "a two", "b one", "b two"], "val": ["c one", "c two"]}
TWO_EACH["test"] = ["d one", "d two", "e one", "e two"]


def msvd(folder, captions=CAPTIONS):
    write_json(folder / "captions_msvd.json", captions)
    return write_lists(folder)


def vatex(folder, captions=CAPTIONS):
    write_json(folder / "ref_captions.json", captions)
    return write_lists(folder)


def official_vatex(folder):
    entries = [{"videoID": video, "enCap": texts, "chCap": ["一"]} for video, texts in CAPTIONS.items()]
    write_json(folder / "vatex_training_v1.0.json", entries[:2])
    write_json(folder / "vatex_validation_v1.0.json", entries[2:])
    return write_lists(folder)


def activitynet(folder, **train):
    times, said = [[5, 9], [0, 3.5], [5, 8]], ["It sits. ", " A dog runs.", " It barks."]
    videos = {f"v_{number}": {"duration": 9, "timestamps": times, "sentences": said} for number in range(5)} | train
    write_json(folder / "train.json", videos)
    write_json(folder / "val_1.json", {"v_t": {"duration": 9, "timestamps": [[0, 1]], "sentences": ["A cat."]}})
    return folder


DIDEMO = ["Late.", "Early.", "Later."]


def didemo(folder, names=("a.mov", "b.mp4", "c.", "d.avi", "e.3gp")):
    entries = [{"video": name, "description": text} for text in DIDEMO for name in names]
    for split in LISTS:
        write_json(folder / f"{split}_data.json", entries)
    return write_lists(folder, names[:2], names[2:3], names[3:])


def lsmdc_row(video, text):
    return "\t".join([video, *["00.00.01.000"] * 4, text]) + "\n"


def lsmdc(folder):
    rows = {"annos_training": [("1_F_00.01-00.02", "SOMEONE runs."), ("1_F_00.01-00.02", 'SOMEONE says "no".')]}
    rows |= {"annos_val": [("2_F_00.01-00.02", "She sits.")]}
    rows |= {"challenge_1000_publictect": [("3_F_00.01-00.02", "He stands.")]}
    for name, lines in rows.items():
        (folder / f"LSMDC16_{name}.csv").write_text("".join(lsmdc_row(*line) for line in lines))
    return folder


def charades(folder, descriptions="A man eats. ; He  stops.;", ids="ABCD"):
    for split, videos in (("train", ids), ("test", "T")):
        with (folder / f"Charades_v1_{split}.csv").open("w", newline="") as file:
            rows = [[video, "told", descriptions, "c1 0 1", "9.5"] for video in videos]
            csv.writer(file).writerows([["id", "script", "descriptions", "actions", "length"], *rows])
    return folder


def charades_sta(folder, *more):
    train = [f"{video} {start} 7.5##person {what}." for video in "ABCD" for start in (0.0, 1.5) for what in "xy"]
    (folder / "charades_sta_train.txt").write_text("\n".join([*train, *more]) + "\n")
    (folder / "charades_sta_test.txt").write_text("T 0.0 3##a\nT 0.0 3##b\nT 1.0 3##c\n")
    return folder


WRITERS = {
    "msvd": msvd,
    "vatex": vatex,
    "activitynet": activitynet,
    "didemo": didemo,
    "lsmdc": lsmdc,
    "charades": charades,
    "charades_sta": charades_sta,
}


def texts(table):
    return {split: rows["text"].tolist() for split, rows in table.groupby("split")}


@pytest.mark.parametrize(
    ("dataset", "write"),
    [("msvd", msvd), ("vatex", vatex), ("vatex", official_vatex)],
    ids=["msvd", "vatex", "official"],
)
def test_every_caption_of_msvd_and_vatex_is_a_row(tmp_path, dataset, write):
    table = read_corpus(dataset, write(tmp_path))
    assert texts(table) == TWO_EACH
    assert (table["video"] == table["text"].str[0]).all()
    assert table[["start", "end"]].isna().all(axis=None)


def test_activitynet_paragraphs_are_in_file_order(tmp_path):
    table = read_corpus("activitynet", activitynet(tmp_path))
    assert set(texts(table)["train"] + texts(table)["val"]) == {"It sits. A dog runs. It barks."}
    assert table["split"].value_counts().to_dict() == {"train": 3, "val": 2, "test": 1}
    assert table.loc[table["split"] == "test", ["video", "text"]].values.tolist() == [["v_t", "A cat."]]


def test_didemo_paragraphs_are_in_file_order_and_of_the_first_30_seconds(tmp_path):
    table = read_corpus("didemo", didemo(tmp_path))
    assert set(table["text"]) == {"Late. Early. Later."}
    assert table["video"].tolist() == list("abcde")
    assert table["split"].tolist() == ["train", "train", "val", "test", "test"]
    assert (table["start"] == 0).all()
    assert (table["end"] == 30).all()


def test_lsmdc_keeps_several_rows_of_one_clip_and_finds_it_in_the_folder_of_its_film(tmp_path):
    film = lsmdc(tmp_path) / "videos/1_F"
    film.mkdir(parents=True)
    (film / "1_F_00.01-00.02.avi").touch()
    table = read_corpus("lsmdc", tmp_path)
    assert texts(table)["train"] == ["SOMEONE runs.", 'SOMEONE says "no".']
    assert table["path"].tolist()[:2] == [str(film / "1_F_00.01-00.02.avi")] * 2
    assert table["path"].tolist()[3] == str(tmp_path / "videos/3_F_00.01-00.02.mp4")


def test_charades_joins_the_descriptions_and_ignores_the_script(tmp_path):
    table = read_corpus("charades", charades(tmp_path))
    assert set(table["text"]) == {"A man eats. He  stops."}
    assert table["split"].value_counts().to_dict() == {"train": 2, "val": 2, "test": 1}


def test_moments_of_charades_sta_are_clips_of_one_file(tmp_path):
    table = read_corpus("charades_sta", charades_sta(tmp_path))
    tested = table[table["split"] == "test"]
    assert tested["video"].tolist() == ["T_0.0_3", "T_0.0_3", "T_1.0_3"]
    assert tested[["start", "end"]].values.tolist() == [[0, 3], [0, 3], [1, 3]]
    assert tested["path"].unique().tolist() == [str(tmp_path / "videos/T.mp4")]
    sources = {split: set(rows["video"].str[0]) for split, rows in table.groupby("split")}
    assert not sources["train"] & sources["val"], "moments of one video are in train and val"
    assert {split: len(ids) for split, ids in sources.items()} == {"train": 2, "val": 2, "test": 1}


def test_moments_that_end_before_they_start_are_left_out_with_a_warning(tmp_path):
    charades_sta(tmp_path, "A 8.0 7.0##backwards", "B 3 3##empty")
    with pytest.warns(UserWarning, match=r"^2 of 18 moments of charades_sta_train\.txt end before .* 'A_8\.0_7\.0'$"):
        table = read_corpus("charades_sta", tmp_path)
    assert len(table) == 16 + 3
    assert not set(table["text"]) & {"backwards", "empty"}


@pytest.mark.parametrize("dataset", ["activitynet", "charades"])
def test_the_held_out_videos_do_not_depend_on_the_order_of_the_file(tmp_path, dataset):
    first = read_corpus(dataset, WRITERS[dataset](tmp_path))
    if dataset == "charades":
        charades(tmp_path, ids="DCBA")
    else:
        videos = json.loads((tmp_path / "train.json").read_text())
        write_json(tmp_path / "train.json", dict(reversed(videos.items())))
    second = read_corpus(dataset, tmp_path)
    assert second["video"].tolist() != first["video"].tolist()
    assert dict(zip(first["video"], first["split"], strict=True)) == dict(
        zip(second["video"], second["split"], strict=True)
    )


def test_numbered_files_of_msvd_are_found_by_the_list_of_numbers(tmp_path):
    (msvd(tmp_path) / "videos").mkdir()
    for name in ("vid1.avi", "b.avi"):
        (tmp_path / "videos" / name).touch()
    paths = read_corpus("msvd", tmp_path).drop_duplicates("video").set_index("video")["path"]
    assert paths["a"] == str(tmp_path / "videos/a.mp4")
    (tmp_path / "youtube_mapping.txt").write_text("a vid1\nb vid2\n")
    paths = read_corpus("msvd", tmp_path).drop_duplicates("video").set_index("video")["path"]
    assert paths["a"] == str(tmp_path / "videos/vid1.avi")
    assert paths["b"] == str(tmp_path / "videos/b.avi")
    assert list(annotation_hashes("msvd", tmp_path))[-1] == "youtube_mapping.txt"


@pytest.mark.parametrize("dataset", WRITERS)
def test_each_benchmark_names_the_file_that_is_absent(tmp_path, dataset):
    WRITERS[dataset](tmp_path)
    assert read_corpus(dataset, tmp_path)["caption_id"].is_monotonic_increasing
    for name in annotation_hashes(dataset, tmp_path):
        if name == "ref_captions.json":
            continue
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name} .*{dataset} .*docs/data.md"):
            read_corpus(dataset, tmp_path)
        (tmp_path / name).write_bytes(content)


@pytest.mark.parametrize("dataset", WRITERS)
def test_no_format_accepts_another_encoding(tmp_path, dataset):
    name = next(iter(annotation_hashes(dataset, WRITERS[dataset](tmp_path))))
    (tmp_path / name).write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=f"{name}.*get"):
        read_corpus(dataset, tmp_path)


def rewrite(name, old, new):
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1))


def content(name, value):
    return lambda folder: write_json(folder / name, value)


FAULTS = {
    "msvd: a caption is empty": (
        "msvd",
        rewrite("captions_msvd.json", '"b two"', '" "'),
        r"row 4 of .*captions_msvd\.json has an empty caption",
    ),
    "msvd: a caption is a number": ("msvd", content("captions_msvd.json", {"a": [1]} | CAPTIONS | {"a": [1]}), "row 1"),
    "msvd: tokens instead of sentences": (
        "msvd",
        content("captions_msvd.json", CAPTIONS | {"a": [["a", "dog"]]}),
        "empty caption",
    ),
    "msvd: a list of captions": ("msvd", content("captions_msvd.json", ["a dog"]), "list of captions for every video"),
    "msvd: a key twice": ("msvd", rewrite("captions_msvd.json", '"b":', '"a":'), "it names 'a' twice"),
    "msvd: an id twice": ("msvd", rewrite("train_list.txt", "b", "a"), r"train_list\.txt names 'a' twice"),
    "msvd: an id in two splits": ("msvd", rewrite("val_list.txt", "c", "a"), "video 'a' of msvd is in train and val"),
    "msvd: no caption": ("msvd", rewrite("val_list.txt", "c", "z"), r"no caption for 1 listed videos, first 'z'"),
    "msvd: an empty list": ("msvd", rewrite("val_list.txt", "c", ""), r"val_list\.txt names no video"),
    "msvd: a mapping of three": (
        "msvd",
        lambda folder: (folder / "youtube_mapping.txt").write_text("a vid1\na b c\n"),
        r"row 2 of .*youtube_mapping\.txt needs an id and a number",
    ),
    "vatex: a path as id": (
        "vatex",
        lambda folder: (write_lists(folder, ["../a"]), vatex_with(folder, "../a")),
        "'../a' must be a plain file name",
    ),
    "vatex: both files hold a video": (
        "vatex",
        lambda folder: (
            (folder / "ref_captions.json").unlink(),
            official_vatex(folder),
            rewrite("vatex_validation_v1.0.json", '"c"', '"a"')(folder),
        ),
        "captions of 'a' in both files",
    ),
    "vatex: an empty caption in the second file": (
        "vatex",
        lambda folder: (
            (folder / "ref_captions.json").unlink(),
            official_vatex(folder),
            rewrite("vatex_validation_v1.0.json", "d one", "")(folder),
        ),
        r"row 3 of .*vatex_validation_v1\.0\.json has an empty caption",
    ),
    "vatex: no English": (
        "vatex",
        lambda folder: (
            (folder / "ref_captions.json").unlink(),
            official_vatex(folder),
            content("vatex_training_v1.0.json", [{"videoID": "a", "chCap": ["一"]}])(folder),
        ),
        r"vatex_training_v1\.0\.json needs a column 'enCap'",
    ),
    "activitynet: a time too few": (
        "activitynet",
        lambda folder: activitynet(folder, v_x={"timestamps": [], "sentences": ["a"]}),
        r"train\.json needs a JSON object with timestamps and sentences",
    ),
    "activitynet: no times": (
        "activitynet",
        lambda folder: activitynet(folder, v_x={"sentences": ["a"]}),
        "KeyError.*timestamps",
    ),
    "activitynet: silent": (
        "activitynet",
        lambda folder: activitynet(folder, v_x={"timestamps": [], "sentences": []}),
        "no sentence for 'v_x'",
    ),
    "activitynet: an empty sentence": (
        "activitynet",
        lambda folder: activitynet(folder, v_x={"timestamps": [[0, 1]], "sentences": [" "]}),
        "row 16 of .* has an empty sentence",
    ),
    "activitynet: too few to hold out": ("activitynet", content("train.json", {}), "no rows"),
    "activitynet: in train and test": (
        "activitynet",
        lambda folder: activitynet(folder, v_t={"timestamps": [[0, 1]], "sentences": ["a"]}),
        "video 'v_t' of activitynet is in (train|val) and test",
    ),
    "didemo: one name with two endings": (
        "didemo",
        lambda folder: didemo(folder, ("a.mov", "a.mp4", "c.", "d.avi", "e.3gp")),
        r"train_list\.txt names 'a' twice",
    ),
    "didemo: without descriptions": (
        "didemo",
        content("val_data.json", [{"video": "c."}]),
        "needs a column 'description' and has video",
    ),
    "lsmdc: five fields": (
        "lsmdc",
        lambda folder: (folder / "LSMDC16_annos_val.csv").write_text("a\tb\tc\td\te\n"),
        r"row 1 of .*LSMDC16_annos_val\.csv needs 6 fields between tabs",
    ),
    "lsmdc: no sentence": (
        "lsmdc",
        lambda folder: (folder / "LSMDC16_annos_val.csv").write_text(lsmdc_row("a", "x") + lsmdc_row("b", " ")),
        "row 2 of .* has an empty sentence",
    ),
    "lsmdc: a path as id": (
        "lsmdc",
        lambda folder: (folder / "LSMDC16_annos_val.csv").write_text(lsmdc_row("../a", "x")),
        "'../a' must be a plain file name",
    ),
    "charades: an id twice": ("charades", lambda folder: charades(folder, ids="ABCA"), "names 'A' twice"),
    "charades: no description": ("charades", lambda folder: charades(folder, " "), "row 1 .* empty descriptions"),
    "charades: semicolons alone": ("charades", lambda folder: charades(folder, ";"), "row 1 .* empty descriptions"),
    "charades: a column is missing": (
        "charades",
        rewrite("Charades_v1_test.csv", "descriptions", "described"),
        r"Charades_v1_test\.csv needs a column 'descriptions'",
    ),
    "charades_sta: no sentence mark": (
        "charades_sta",
        lambda folder: charades_sta(folder, "A 1 2 person"),
        r"row 17 of .*charades_sta_train\.txt needs the form `video start end##sentence`",
    ),
    "charades_sta: no sentence": (
        "charades_sta",
        lambda folder: charades_sta(folder, "A 1 2## "),
        "row 17 of .* has an empty sentence",
    ),
    "charades_sta: a time that is none": (
        "charades_sta",
        lambda folder: charades_sta(folder, "A nan 2##person"),
        "row 17 .* needs the form",
    ),
    "charades_sta: a source in two splits": (
        "charades_sta",
        lambda folder: charades_sta(folder, "T 8.0 9.0##x"),
        "video 'T' of charades_sta is in (train|val) and test",
    ),
}


def vatex_with(folder, video):
    write_json(folder / "ref_captions.json", CAPTIONS | {video: ["x"]})


@pytest.mark.parametrize(("dataset", "fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_sentence_that_names_its_place(tmp_path, dataset, fault, message):
    WRITERS[dataset](tmp_path)
    fault(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        read_corpus(dataset, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dataset", WRITERS)
def test_wrong_counts_are_an_error_with_what_was_expected_and_given(tmp_path, dataset, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("glscl.data.corpora.reading.VALIDATION_VIDEOS", 2)
    expected = r"should have [\d,]+ videos.* and has \d videos and \d captions: get the complete .*docs/data\.md"
    with pytest.raises(ValueError, match=expected):
        read_corpus(dataset, WRITERS[dataset](tmp_path))


def test_every_split_must_have_counted_or_documented_numbers(tmp_path, monkeypatch):
    known = {"train": [(9, 9), (2, 4)], "val": [(1, None)], "test": [(2, 4)]}
    monkeypatch.setattr("glscl.data.corpora.counts.COUNTED", {("msvd", None): known})
    read_corpus("msvd", msvd(tmp_path))
    known["test"] = [(2, 5), (3, 4)]
    with pytest.raises(
        ValueError,
        match=r"^test should have 2 videos and 5 captions or 3 videos and 4 captions and has 2 videos and 4 ",
    ):
        read_corpus("msvd", tmp_path)
    known["test"], known["val"] = [(2, 4)], [(2, None)]
    with pytest.raises(ValueError, match=r"^val should have 2 videos and has 1 videos and 2 captions"):
        read_corpus("msvd", tmp_path)
    del known["val"]
    monkeypatch.setattr("glscl.data.corpora.counts.PUBLISHED", {("msvd", None): {"val": [(None, 3)]}})
    with pytest.warns(
        UserWarning,
        match="^published counts of msvd differ: val should have 3 captions and has 1 videos and 2 captions;",
    ):
        read_corpus("msvd", tmp_path)
