"""The stage that hashes code and notebooks: what a saved notebook changes, and what it does not."""

import json

import pytest

from glscl.study import code

SAVED = {"metadata": {"collapsed": True}, "execution_count": 3, "outputs": [{"output_type": "stream", "text": ["1"]}]}


def hashes(root) -> dict[str, str]:
    code.write_hashes(root)
    return {file.name: file.read_text() for file in (root / "work/code").iterdir()}


@pytest.mark.parametrize(
    ("cell", "changed", "files"),
    [
        (2, SAVED, set()),
        (0, {"metadata": {"slideshow": {}}}, set()),
        (0, {"source": ["# Train well"]}, {"notebooks.txt"}),
        (2, {"source": ["print(2)"]}, {"notebooks.txt", "03_train.txt"}),
        (2, {"source": ["print(1)  # a comment"]}, {"notebooks.txt"}),
    ],
)
def test_what_a_notebook_says_counts_and_not_its_outputs_and_metadata(small, cell, changed, files):
    root = small("print(1)")
    path = (root / "notebooks/train.ipynb").rename(root / "notebooks/03_train.ipynb")
    before, notebook = hashes(root), json.loads(path.read_text())
    notebook["metadata"] = {"kernelspec": {"name": "another"}}
    notebook["cells"][cell] |= changed
    path.write_text(json.dumps(notebook))
    after = hashes(root)
    assert before.keys() == after.keys() == {"notebooks.txt", "03_train.txt"}
    assert {name for name in after if after[name] != before[name]} == files
