"""How far `scenes` lets methods differ: R@1 on its test split of the oracles and of mean pooling of the bundled CLIP.

Run by `make bundled-inputs`; fails where mean pooling leaves too little.
"""

import tempfile
from pathlib import Path

import pandas as pd

from glscl.base import load_backbone
from glscl.bundled.headroom import headroom
from glscl.data.dataset import PreparedCorpus
from glscl.encoding import encode_split
from glscl.rivals.mean_pooling import MeanPooling
from glscl.scoring import similarity_matrix
from glscl.study.parameters import named_sections, resolve
from glscl.study.preparation import encode, prepare

if __name__ == "__main__":
    given = resolve(named_sections(Path(), ["datasets.scenes.corpus", "datasets.scenes.inputs"]))
    data, inputs = Path(given["corpus"]["folder"]), given["inputs"]
    with tempfile.TemporaryDirectory() as folder:
        prepare("scenes", given["corpus"], inputs, folder, progress=False)
        encode(folder, inputs)
        corpus = PreparedCorpus.open(folder, inputs["clip"], inputs["backbone"], inputs["words"])
        split = corpus.split("test")
        model = MeanPooling.from_clip(load_backbone(inputs["clip"], "frozen", corpus.processor), temporal_layers=0)
        scores = similarity_matrix(model, *encode_split(model, split)).numpy()
    captions = pd.read_csv(data / "captions.csv").iloc[split.captions["caption_id"]]
    events = pd.read_csv(data / "events.csv").set_index("video").loc[captions["video"]].reset_index()
    found = headroom(captions, events, scores[:, split.video_of_text])
    print("R@1 on the test split of scenes:", ", ".join(f"{name} {value:.1f} %" for name, value in found.items()))
