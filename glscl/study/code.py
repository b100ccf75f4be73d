"""The first stage: is params.yaml right? And for every notebook of a stage, a file with the hash of its code.

The code is what the notebook can reach, and the stage depends on this file.

python -m glscl.study.code
"""

import hashlib
import json
import sys
from itertools import chain, product
from pathlib import Path

from glscl.code_hash import hash_of
from glscl.files import write_text
from glscl.study.parameters import OWN, load_params
from glscl.study.project import project_root
from glscl.study.stage import params_are_valid


def write_hashes(root: Path) -> None:
    """Write work/code/<notebook>.txt for the notebook of every stage, and make the folders of trained models.

    The file `notebooks.txt` beside them has a hash of what all notebooks say, without outputs and metadata.

    The names of these notebooks begin with a number; `explore` is no stage. The code that turns params.yaml into the
    parameters of a notebook counts as reached by all. The folders are there where nothing is trained too, as stages
    read them.
    """
    for notebook in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        write_text(root / f"work/code/{notebook.stem}.txt", hash_of(notebook, "glscl.study.parameters") + "\n")
    cells = [
        [cell["cell_type"], "".join(cell["source"])]
        for notebook in sorted((root / "notebooks").glob("*.ipynb"))
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    ]
    write_text(root / "work/code/notebooks.txt", hashlib.sha256(json.dumps(cells).encode()).hexdigest() + "\n")
    params = load_params(root)
    read = [*product(params["profiles"], chain.from_iterable(params["study"].values()))]
    for profile, dataset in (*read, *product([OWN], params["own"]["corpora"])):
        write_text(root / f"work/{profile}/{dataset}/train/.keep", "\n")


def main() -> int:
    """Check params.yaml, then write the hashes; the exit status."""
    root = project_root()
    if not params_are_valid(root):
        return 1
    write_hashes(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
