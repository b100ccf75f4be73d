"""Train what stage 03_train trains, in the processes of a launcher: on several GPUs of one machine, or of several.

    torchrun --nproc-per-node 8 -m glscl.study.train profile=full dataset=msrvtt method=glscl

The parameters are those of the stage. The finished runs stay in work/.unfinished, where the stage finds them, so that
it trains nothing again. Several machines need one checkout that all of them see.
"""

import sys

from glscl.study.learning import learn
from glscl.study.parameters import OWN, assigned, declared_by_stage, resolve
from glscl.study.project import Folders, enter_project
from glscl.study.stage import require_valid_given, require_valid_params


def main(argv: list[str]) -> None:
    """Train the method that profile, dataset and method name. Raises ValueError where one of them is not given."""
    root, items = enter_project(scratch=False), assigned({}, argv)
    if absent := sorted({"profile", "dataset", "method"} - items.keys()):
        raise ValueError(f"expected profile=..., dataset=... and method=..., got no {absent[0]}; give all three.")
    require_valid_params(root)
    require_valid_given(root, items, argv)
    parameters = resolve(declared_by_stage(root, "own_train" if items["profile"] == OWN else "train", items))
    folders = Folders.of(items["profile"], items["dataset"])
    trained, start = folders.work / "train", parameters.get("start")
    learn(
        folders.corpus,
        *(parameters[name] for name in ("inputs", "head", "model", "train", "seeds")),
        trained / items["method"],
        start=trained / start if start else None,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
