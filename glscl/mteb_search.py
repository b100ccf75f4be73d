"""Any model of the study in mteb's text-to-video and video-to-text retrieval tasks; needs `pip install glscl[mteb]`.

mteb knows encoders, whose items are one vector each, and search models, which index a corpus and score it themselves:
`mteb.models.SearchProtocol`, here as of mteb 2.26. Most heads compare more than two vectors, so every model of the
study is a search model, with the scores of its own head. Tasks without a search, such as classification or clustering,
take encoders alone and are beyond it.

A video of mteb is an entry of a `datasets.Video` column. It is read undecoded, as a path or as the bytes of a file, and
decoded by the study's own code: the frames are those of the study, and torchcodec is not needed.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from glscl.base import joined
from glscl.retriever import BATCH, Retriever
from glscl.scoring import similarity_matrix

try:
    from datasets import Dataset, Video
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction
except ImportError as error:
    raise ImportError(
        f"glscl.mteb_search needs mteb, got {error}; install it with `pip install glscl[mteb]`."
    ) from error


class MTEBSearch:
    """A retriever's model as mteb's search model.

    model = MTEBSearch(Retriever.from_pretrained("work/quick/scenes/train/glscl/seed-0"))
    mteb.evaluate(model, mteb.get_tasks(tasks=["MSRVTTT2V", "MSRVTTV2T"]))

    Results are filed under the method and the fingerprint of the model, so no other model's are taken for its own.
    """

    def __init__(self, retriever: Retriever):
        self.retriever = retriever
        model = retriever.model
        about = {"name": f"glscl/{model.config.model_type}", "revision": retriever.fingerprint()}
        about |= {"modalities": ["text", "video"], "similarity_fn_name": ScoringFunction.CUSTOM}
        about |= {"n_parameters": model.num_parameters(), "max_tokens": retriever.processor.words}
        self.mteb_model_meta = ModelMeta.create_empty(about)

    def index(self, corpus: Dataset, *, task_metadata: TaskMetadata, encode_kwargs: dict, **_) -> None:
        """Embed the videos or the texts of a corpus, each once; `search` looks through them."""
        self._ids = list(corpus["id"])
        self._corpus = self._embed(corpus, _sides(task_metadata)[1], encode_kwargs)

    def search(
        self,
        queries: Dataset,
        *,
        task_metadata: TaskMetadata,
        top_k: int,
        encode_kwargs: dict,
        top_ranked: dict[str, list[str]] | None = None,
        **_,
    ) -> dict[str, dict[str, float]]:
        """The top_k best items of the corpus for every query: {query: {item: score}}, by their ids.

        top_ranked: in a reranking task, the items that each query is compared with.
        """
        kind = _sides(task_metadata)[0]
        embedded = self._embed(queries, kind, encode_kwargs)
        if kind == "text":
            scores = similarity_matrix(self.retriever.model, embedded, self._corpus)
        else:
            scores = similarity_matrix(self.retriever.model, self._corpus, embedded).T
        rows = dict(zip(queries["id"], scores, strict=True))
        if top_ranked is None:
            return {query: _best(row, self._ids, top_k) for query, row in rows.items()}
        place = {item: column for column, item in enumerate(self._ids)}
        among = {query: top_ranked.get(query, []) for query in rows}
        return {query: _best(rows[query][[place[i] for i in ids]], ids, top_k) for query, ids in among.items()}

    def _embed(self, items: Dataset, kind: str, encode_kwargs: dict):
        """Embeddings of the column `text` or `video`; titles and instructions beside a text are not read."""
        if kind == "text":
            return self.retriever.embed_texts(list(items["text"]))
        videos = items.select_columns(["video"]).cast_column("video", Video(decode=False))
        batches = videos.iter(encode_kwargs.get("batch_size", BATCH))
        return joined([self._embed_videos(batch["video"]) for batch in batches])

    def _embed_videos(self, videos: list[dict]):
        """Embeddings of videos as `datasets` stores them: `bytes` of a file or, where they are None, its `path`."""
        with TemporaryDirectory() as folder:
            paths = [Path(folder, str(row)) if video["bytes"] else video["path"] for row, video in enumerate(videos)]
            for path, video in zip(paths, videos, strict=True):
                if video["bytes"]:
                    path.write_bytes(video["bytes"])
            return self.retriever.embed_videos(paths)


def _sides(task: TaskMetadata) -> tuple[str, str]:
    """What the queries and what the corpus of a task are: `text` or `video`. Sound beside them is not heard."""
    known = {"t2v": ("text", "video"), "v2t": ("video", "text")}
    category = str(task.category).replace("a", "")
    if category not in known:
        raise ValueError(
            f"a model of the study compares texts with videos, got task {task.name} of category {task.category}; "
            "choose one of category t2v or v2t."
        )
    return known[category]


def _best(scores: Tensor, ids: list[str], k: int) -> dict[str, float]:
    """The k best of scores (items,) by the ids of the items; all of them where they are fewer."""
    found, rows = scores.topk(min(k, len(ids)))
    return {ids[row]: score for score, row in zip(found.tolist(), rows.tolist(), strict=True)}
