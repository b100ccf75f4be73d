"""The benchmarks' real annotation files, beside the project: counts of every split, and protocols seen in real rows."""

import functools
import json
import re
import warnings

import pytest

from glscl.data.corpora import read_corpus
from glscl.data.corpora.counts import COUNTED
from glscl.data.video_files import inventory
from tests import REAL

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real annotation files are not on this machine")


@functools.cache
def table(dataset, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_corpus(dataset, REAL / dataset.partition("_")[0], **settings)


def linked(folder, dataset):
    """Link the real files of a benchmark into a folder that takes made-up ones for those that are not public."""
    for path in (REAL / dataset).iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def counts(rows):
    return {split: (part["video"].nunique(), len(part)) for split, part in rows.groupby("split")}


COMPLETE = [("msrvtt", partition) for partition in ("9k", "7k", "full")]
COMPLETE += [(dataset, None) for dataset in ("msvd", "activitynet", "charades", "charades_sta")]


@pytest.mark.parametrize(("dataset", "partition"), COMPLETE)
def test_real_counts(dataset, partition):
    rows = table(dataset, **({"partition": partition} if partition else {}))
    assert counts(rows) == {split: variants[0] for split, variants in COUNTED[dataset, partition].items()}
    assert rows["text"].str.strip().astype(bool).all()
    assert rows["caption_id"].tolist() == list(range(len(rows)))


def test_real_msrvtt_test_sentences():
    tested = table("msrvtt", partition="9k").query("split == 'test'")["text"]
    assert tested.nunique() == 995
    assert tested.iloc[0] == "a person is connecting something to system"


def test_real_7k_videos_are_inside_9k():
    seven, nine = (table("msrvtt", partition=partition).query("split != 'test'")["video"] for partition in ("7k", "9k"))
    assert set(seven) < set(nine)


def test_real_mini_split():
    rows = table("msrvtt", partition="mini")
    assert counts(rows) == {"train": (420, 420 * 20), "val": (90, 90), "test": (240, 240)}
    assert inventory(rows, REAL / "msrvtt") == (750, 750, [], [], "")
    first = {}
    for row in json.loads((REAL / "msrvtt/MSRVTT_data.json").read_text())["sentences"]:
        first.setdefault(row["video_id"], row["caption"])
    tested = rows[rows["split"] != "train"]
    assert tested["text"].tolist() == [first[video] for video in tested["video"]]


def test_real_msvd_clips_are_found_as_avi():
    held = inventory(table("msvd"), REAL / "msvd")
    assert held[:2] == (1970, 5)
    assert not held.extra
    assert held.hint.startswith("1,965 of 1,970 videos are not in ")


def test_real_activitynet_paragraphs_hold_every_sentence_in_file_order():
    texts = table("activitynet").set_index("video")["text"]
    for name in ("train.json", "val_1.json"):
        for video, entry in json.loads((REAL / "activitynet" / name).read_text()).items():
            assert texts[video] == " ".join(sentence.strip() for sentence in entry["sentences"])


def test_real_charades_takes_descriptions():
    text = table("charades").set_index("video")["text"]["YSKX3"]
    assert text.startswith("A person looks under a mattress and pats the bed.")
    assert text.endswith("the person leaves.")
    assert ";" not in text


def test_real_charades_sta_moments():
    with pytest.warns(UserWarning, match="^4 of 12,408 moments"):
        rows = read_corpus("charades_sta", REAL / "charades")
    assert (rows["end"] > rows["start"]).all()
    assert rows.groupby("split")["path"].nunique().to_dict() == {"train": 4836, "val": 500, "test": 1334}
    moments = rows.query("split == 'test'").drop_duplicates("video")
    assert not moments.duplicated(["path", "start", "end"]).any()


def test_real_didemo_validation_and_test_with_a_made_up_training_file(tmp_path):
    linked(tmp_path, "didemo")
    names = (tmp_path / "train_list.txt").read_text().split()
    entries = [{"video": name, "description": "made up"} for name in names]
    (tmp_path / "train_data.json").write_text(json.dumps(entries))
    rows = read_corpus("didemo", tmp_path)
    assert counts(rows) == {"train": (8392, 8392), "val": (1065, 1065), "test": (1004, 1004)}
    text = rows.set_index("video")["text"]["68413968@N00_3072987342_f1998a1567"]
    assert text.startswith("a red light blinks under the drums. camera turns toward beating drums")
    (tmp_path / "train_list.txt").unlink()
    (tmp_path / "train_list.txt").write_text("\n".join(names[:7103]))
    with pytest.raises(ValueError, match=r"^train should have 8,392 videos .* or 8,395 videos .* and has 7,103 videos"):
        read_corpus("didemo", tmp_path)


def test_real_lsmdc_test_rows_with_made_up_training_files(tmp_path):
    linked(tmp_path, "lsmdc")
    for name in ("training", "val"):
        row = "\t".join([f"1_{name}_00.01-00.02", *["00.00.01"] * 4, "SOMEONE runs."])
        (tmp_path / f"LSMDC16_annos_{name}.csv").write_text(row + "\n")
    with pytest.warns(UserWarning, match="^published counts of lsmdc differ") as caught:
        rows = read_corpus("lsmdc", tmp_path)
    assert counts(rows)["test"] == (1000, 1000)
    assert rows.query("split == 'test'")["text"].nunique() == 995
    assert [re.findall(r"differ: (\w+) should have ([\d,]+) captions", str(warning.message)) for warning in caught] == [
        [("train", "101,079")],
        [("val", "7,408")],
    ]


def test_real_vatex_lists_with_made_up_captions(tmp_path):
    linked(tmp_path, "vatex")
    lists = [(tmp_path / f"{split}_list.txt").read_text() for split in ("train", "val", "test")]
    videos = " ".join(lists).split()
    ten = [f"made up {number}" for number in range(10)]
    (tmp_path / "ref_captions.json").write_text(json.dumps(dict.fromkeys(videos, ten)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = read_corpus("vatex", tmp_path)
    assert counts(rows) == {"train": (25991, 259910), "val": (1500, 15000), "test": (1500, 15000)}


def test_real_clips_as_the_users_own(tmp_path):
    captions = (REAL / "clips/captions.csv").read_text()
    (tmp_path / "captions.csv").write_text(captions.replace("file,caption", "video,caption", 1))
    (tmp_path / "videos").symlink_to(REAL / "clips")
    rows = read_corpus("own", tmp_path)
    assert set(rows["split"]) == {"test"}
    assert inventory(rows, tmp_path) == (5, 5, [], [], "")
