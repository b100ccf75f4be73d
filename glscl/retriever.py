"""For people who just want to use a trained model: sentences and files in, embeddings and search out."""

import hashlib
import os
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from operator import index as whole_number
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from glscl import exact_search
from glscl.base import RetrievalModel, joined, load_backbone, take
from glscl.config import at_least
from glscl.data.decoding import VideoError, decode_frames, read_header
from glscl.data.processor import Processor
from glscl.data.video_files import ENDINGS, files_under, is_video
from glscl.first_stage import GROUPS, text_vectors, video_vectors
from glscl.methods import METHODS, load_trained
from glscl.pretrained import model_type, require_clip
from glscl.scoring import COLUMNS, encode_all, top_k
from glscl.video_index import EVERYTHING, ROWS, WHOLE, Entry, Filter, Shard, VideoIndex, is_address

try:
    from glscl import approximate_search
except ImportError:  # FAISS is optional
    approximate_search = None

BATCH = 32  # videos that are decoded side by side and encoded together
CODED = 1024  # videos of a shard from which codes are worth it
LISTED = 2**15  # videos of an index from which a first stage is worth it
BEHIND = 0.01  # of the videos may lack a vector of the first stage before it is brought up to date
GONE = 0.1  # of the vectors of the first stage may be of videos that are gone before it is made anew
CANDIDATES = 500  # that Milvus is asked for
EVERY = 30.0  # seconds after which a lasting index is written to the disk


class Changes(NamedTuple):
    """What `Retriever.index` did with the files that it was given: how many were of each kind.

    added: indexed for the first time. updated: indexed anew, as their content had changed. unchanged: left as they are.
    unreadable: among all of these, files that give no frames. gone: indexed files that lie there no more; dropped, or
    kept without `prune`.
    """

    added: int
    updated: int
    unchanged: int
    unreadable: int
    gone: int


class Opened(NamedTuple):
    """What a search reads: the shards of an index in some state of it, and the codes of those that have any."""

    state: tuple[int, int] | None
    shards: list[Shard]
    codes: dict


class Retriever:
    """A model with its tokenizer and image settings, and the videos indexed so far.

    retriever = Retriever.from_pretrained("work/quick/scenes/train/glscl/seed-0")
    retriever.index("my videos")  # files and folders
    retriever.search("a red circle moves to the left", k=1)  # [(Path("<here>/my videos/a.mp4"), 0.61)]
    retriever.save("my index")  # for Retriever.load("my index"), in another process on another day
    """

    def __init__(self, model: RetrievalModel, processor: Processor, source: str | Path | None = None):
        """source: folder or name that the model can be loaded from again; an index that is saved names it.

        Raises ValueError where the tokenizer or the image settings do not fit the model.
        """
        processor.require_fit(model.config.clip_config)
        self.model, self.processor = model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), processor
        self.source = str(Path(source).resolve() if source and Path(source).exists() else source or "")
        self._index, self._opened = VideoIndex.in_memory(), Opened(None, [], {})
        self._first_stage: tuple = (None, None)  # state of the index, and its graph

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Retriever":
        """Load a folder that `train` wrote: weights, configuration, tokenizer and image settings."""
        model = load_trained(folder)
        return cls(model, Processor.from_pretrained(folder, model.config.words), folder)

    @classmethod
    def from_clip(cls, clip: str | Path, frames: int = 12, words: int = 32) -> "Retriever":
        """CLIP as it is, from a folder or by name, without training: the cosine of a sentence with the mean frame."""
        require_clip(clip)
        processor = Processor.from_pretrained(clip, words)
        backbone = load_backbone(clip, "frozen", processor)
        model = METHODS["mean_pooling"].from_clip(backbone, temporal_layers=0, frames=frames, words=words)
        return cls(model, processor, clip)

    @classmethod
    def open(cls, model: str | Path, frames: int = 12, words: int = 32) -> "Retriever":
        """The model in a folder or of a name: one that `train` wrote, or CLIP as it is, with so many frames and words.

        Raises ValueError where it is neither.
        """
        return cls.from_pretrained(model) if model_type(model) in METHODS else cls.from_clip(model, frames, words)

    @classmethod
    def load(cls, folder: str | Path, model: str | Path | None = None) -> "Retriever":
        """The index that `save` wrote, with the model that made it; `index` then keeps the folder up to date.

        folder: or an address of Milvus, which can be searched alone. model: where that model lies now, if it was moved.
        Raises FileNotFoundError where there is no index, and ValueError where it is damaged or another model made it.
        """
        index = _milvus().open(str(folder)) if is_address(folder) else VideoIndex.open(folder)
        about = index.about()
        source = str(model or about["model"])
        if not source:
            raise ValueError(f"{folder} does not say where its model lies; name it: load(folder, model).")
        retriever = cls.open(source, about["frames"], about["words"])
        if (found := retriever.fingerprint()) != about["fingerprint"]:
            raise ValueError(
                f"{folder} was made by {about['method']} {about['fingerprint']}, and {source} holds "
                f"{retriever.model.config.model_type} {found}; load the model that made it, or index the videos again."
            )
        retriever._index = index
        return retriever

    def save(self, folder: str | Path) -> None:
        """Write what is indexed into a folder of its own; from now on `index` keeps that folder up to date.

        Raises ValueError where something else lies in the folder.
        """
        self._index = self._own().copy_to(folder, self._about())

    def publish(self, address: str):
        """Make Milvus at an address have what is indexed here: `http://host:19530`, or a file that ends in .db.

        What other indexes published there stays. Returns `glscl.milvus_index.Published`. Raises ValueError where
        another model made it, or nobody answers.
        """
        if not is_address(address):
            raise ValueError(f"an address is http://host:19530 or a file that ends in .db, got {address}; correct it.")
        with closing(_milvus()(address)) as there:
            return there.publish(
                self._own(), self._about(), lambda found: video_vectors(self.model.head, self._embeddings(found))
            )

    def _about(self) -> dict:
        """What embeddings are made with, as an index keeps it."""
        config = self.model.config
        about = {"model": self.source, "method": config.model_type, "fingerprint": self.fingerprint()}
        return about | {"frames": config.frames, "words": self.processor.words, "size": self.processor.size}

    def _own(self) -> VideoIndex:
        """The index in memory or in a folder. Raises ValueError where this retriever searches Milvus."""
        if not isinstance(self._index, VideoIndex):
            raise ValueError(f"{self._index.address} can only be searched; index into a folder, and publish that.")
        return self._index

    def fingerprint(self) -> str:
        """Hash of what decides an embedding: weights, configuration, image settings and the number of words."""
        settings = _settings(self.model.config.to_dict())
        digest = hashlib.sha256(repr([type(self.model).__name__, settings, self.processor.words]).encode())
        digest.update(self.processor.images.to_json_string().encode())
        unread = () if self.model.config.temporal_layers else ("head.temporal.positions.weight",)  # random numbers
        for name, weight in sorted(self.model.state_dict().items()):
            if name in unread:
                continue
            digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def paths(self) -> list[Path]:
        """The files that are indexed."""
        return [Path(entry.path) for entry in self._own().entries() if not entry.reason]

    @property
    def unreadable(self) -> dict[Path, str]:
        """The files that could not be read, each with the reason."""
        return {Path(entry.path): entry.reason for entry in self._own().entries() if entry.reason}

    def entries(self) -> list[Entry]:
        """Every file that is known, with its size, time, hash and duration."""
        return list(self._own().entries())

    def embed_texts(self, sentences: list[str]):
        """Embeddings of sentences, for GLSCL `glscl.model.Texts`, on the CPU."""
        ids, mask = (tensor.to(self.model.device) for tensor in self.processor.tokenise(sentences))
        return encode_all(lambda index: self.model.encode_texts(ids[index], mask[index]), len(sentences))

    def embed_videos(self, paths: list[str | Path]):
        """Embeddings of video files, for GLSCL `glscl.model.Videos`, on the CPU.

        Each file is decoded once. Raises `glscl.data.decoding.VideoError` at a file that cannot be read.
        """
        if not paths:
            raise ValueError("expected at least one video file, got none; check the folder.")
        starts = range(0, len(paths), BATCH)
        return joined([self._encode_frames(list(map(self._decode, paths[s : s + BATCH]))) for s in starts])

    def index(
        self, videos: str | Path | Iterable[str | Path], prune: bool = False, share: tuple[int, int] = (1, 1)
    ) -> Changes:
        """Embed video files and add them to what `search` looks through; only what is new or has changed is read.

        videos: a file, a folder with all videos in it and its sub-folders, or several of these. Hidden files and
        folders are passed over. prune: drop indexed files under the given paths that lie there no more.
        share: (3, 16) takes the third of 16 shares of the files, which sixteen machines can take at once; a file is in
        the same share wherever it has the same path.
        A file that cannot be read is left out, named in a warning and kept in `unreadable`. A file that was only moved
        is known by its content. An index with a folder is written every half minute, so that a run that is stopped
        loses no more; the same call goes on. Raises VideoError where no file can be read, and ValueError without files.
        """
        given = [videos] if isinstance(videos, str | os.PathLike) else list(videos)
        files = _files_of(given)
        part, parts = share
        if not 1 <= part <= parts:
            raise ValueError(f"a share must be from 1 to the number of shares, got {part} of {parts}; correct it.")
        found = bool(files)
        files = {file: None for file in files if zlib.crc32(os.fsencode(file)) % parts == part - 1}
        if not found:
            raise ValueError(
                f"expected at least one video file ({', '.join(ENDINGS[:5])} ...), got none; check {given}."
            )
        with self._own().writing():
            known = {entry.path: entry for entry in self._index.entries()}
            gone = {path for path in known if not os.path.exists(path) and _lies_in(path, given)}
            waiting = [file for file in files if file not in gone and not _unchanged(file, known.get(file))]
            self._add(waiting, {entry.hash: entry.seconds for entry in known.values() if not entry.reason})
            if prune:
                self._index.drop(sorted(gone))
            self._index.tidy()
            self._add_codes()
            self._add_graph()
        unreadable = [e.reason for e in self._index.entries() if e.reason and e.path in files]
        if unreadable:
            told = (
                f"{len(unreadable)} of {len(files)} files cannot be read and are not indexed: {'; '.join(unreadable)}"
            )
            if not len(self._index):
                raise VideoError(told)
            warnings.warn(told, stacklevel=2)
        updated = sum(file in known for file in waiting)
        unchanged = len(files.keys() - gone) - len(waiting)
        return Changes(len(waiting) - updated, updated, unchanged, len(unreadable), len(gone))

    def search(self, text: str | list[str], k: int = 5, where: Filter = EVERYTHING, candidates: int = 0) -> list:
        """The k best indexed files for a sentence, best first, with their scores: [(path, score), ...].

        Of several sentences a list of such lists. Fewer than k files are indexed, or pass the filter `where`: all of
        them. candidates: how many videos a first stage leaves to be scored, see `glscl.first_stage`, which is faster in
        a large index and can miss some; 0: the result is exact, except in Milvus, where it is `CANDIDATES`.
        Raises ValueError at an empty sentence, at k below 1, at a negative number, or where nothing is indexed.
        """
        if not hasattr(k, "__index__"):
            raise ValueError(f"k must be a whole number, got {k!r}; say how many videos are wanted.")
        k = whole_number(k)
        at_least("k", k, 1)
        at_least("candidates", candidates, 0)
        if not len(self._index):
            raise ValueError("nothing is indexed yet; call index with files or folders first.")
        sentences = [text] if isinstance(text, str) else list(text)
        texts = self.embed_texts(sentences)
        search = self._in_folder if isinstance(self._index, VideoIndex) else self._in_milvus
        results = search(texts, k, where, max(candidates, k) if candidates else 0)
        return results[0] if isinstance(text, str) else results

    def _in_folder(self, texts, k: int, where: Filter, candidates: int) -> list[list[tuple[Path, float]]]:
        opened = self._open()
        shards = opened.shards if where == EVERYTHING else list(self._index.shards(where))
        graph = self._graph() if candidates else None
        if graph:
            parts = {shard.number: self._part(shard, None) for shard in shards}
            hits = approximate_search.best(self.model.head, texts, parts, graph, k, candidates, where != EVERYTHING)
            places = {number: place for place, number in enumerate(parts)}
            found = [[(score, places[number], row) for (number, row), score in one.sorted()] for one in hits]
        elif opened.codes:
            parts = [self._part(shard, opened.codes.get(shard.number)) for shard in shards]
            hits = exact_search.best(self.model.head, texts, parts, k)
            found = [[(score, *place) for place, score in one.sorted()] for one in hits]
        else:
            found = self._one_by_one(texts, shards, k)
        return [
            [(Path(path), score) for score, shard, row in hits for path in shards[shard].paths[row]][:k]
            for hits in found
        ]

    def _in_milvus(self, texts, k: int, where: Filter, candidates: int) -> list[list[tuple[Path, float]]]:
        found = []
        for text, vector in enumerate(text_vectors(self.model.head, texts)):
            paths, embeddings = self._index.candidates(vector, candidates or max(CANDIDATES, k), where)
            found.append([])
            if paths:
                videos = self._embeddings(embeddings)
                scores, places = top_k(self.model, take(texts, [text]), videos, min(k, len(paths)))
                rows = zip(places[0].tolist(), scores[0].tolist(), strict=True)
                found[-1] = [(Path(paths[row]), score) for row, score in rows]
        return found

    def _open(self) -> "Opened":
        """The shards and their codes, read again where the index has changed since the last search."""
        if self._opened.state != (state := self._index.state()):
            shards = list(self._index.shards())
            files = {s.number: self._index.codes(s.number) for s in shards if self._bounded}
            codes = {number: exact_search.Codes.load(file) for number, file in files.items() if file}
            self._opened = Opened(state, shards, codes)
        return self._opened

    def _graph(self):
        """The first stage, read again where the index has changed since it was read; None where there is none."""
        if self._first_stage[0] != (state := self._index.state()):
            file = self._index.codes(WHOLE) if approximate_search else None
            self._first_stage = state, file and approximate_search.Graph.load(file)
        return self._first_stage[1]

    def _part(self, shard: Shard, codes):
        return exact_search.Part(np.array(list(shard.paths)), partial(self._videos, shard), codes)

    def _one_by_one(self, texts, shards: list[Shard], k: int) -> list[list[tuple[float, int, int]]]:
        best: list[list[tuple[float, int, int]]] = [[] for _ in texts[0]]
        for number, shard in enumerate(shards):
            for rows in torch.tensor(list(shard.paths)).split(COLUMNS):
                scores, places = top_k(self.model, texts, self._videos(shard, rows), min(k, len(rows)))
                for hits, score, place in zip(best, scores.tolist(), rows[places].tolist(), strict=True):
                    hits += zip(score, [number] * len(score), place, strict=True)
                    hits.sort(key=lambda hit: -hit[0])
                    del hits[k:]
        return best

    def _videos(self, shard: Shard, rows: Tensor):
        return self._embeddings(shard.embeddings(rows))

    def _embeddings(self, tensors: dict[str, Tensor]):
        return self.model.head.embedding_types[1](**tensors)

    @property
    def _bounded(self) -> bool:
        """Whether codes help: on a GPU all videos are scored."""
        return self.model.device.type == "cpu" and exact_search.can_search(self.model.head)

    def _add_codes(self) -> None:
        """Codes for large shards without any, so that a search need not look at most of their videos."""
        if self._bounded and self._index.folder:
            large = [shard for shard in self._index.shards() if len(shard.paths) >= CODED]
            for shard in tqdm([s for s in large if not self._index.codes(s.number)], desc="codes", unit="shard"):
                videos = self._videos(shard, torch.arange(len(next(iter(shard.tensors.values())))))
                self._index.add_codes(shard.number, exact_search.encode(self.model.head, videos).save)

    def _add_graph(self) -> None:
        """Bring the first stage of a large index up to date, where too many videos lack a vector or are gone."""
        if not (approximate_search and self._index.folder and len(self._index) >= LISTED):
            return
        shards = {shard.number: shard for shard in self._index.shards()}
        rows = {number: len(next(iter(shard.tensors.values()))) for number, shard in shards.items()}
        file = self._index.codes(WHOLE)
        graph = approximate_search.Graph.load(file) if file else None
        missing = shards.keys() - (graph.shards if graph else set())
        if graph and sum(rows[number] for number in missing) <= BEHIND * sum(rows.values()):
            return
        if not graph or graph.gone(list(shards)) > GONE:  # a graph forgets nothing
            step = max(1, GROUPS * sum(rows.values()) // approximate_search.TRAINED_ON)
            sample = torch.cat([self._vectors(shard, slice(None, None, step)) for shard in shards.values()])
            graph, missing = approximate_search.Graph.trained(sample.flatten(0, 1)), shards.keys()
        for number in tqdm(sorted(missing), desc="first stage", unit="shard"):
            graph.add(number, self._vectors(shards[number], slice(None)))
        self._index.add_codes(WHOLE, graph.save)

    def _vectors(self, shard: Shard, rows: slice) -> Tensor:
        """Vectors of the first stage of these rows of a shard, in parts that bound the memory."""
        chosen = torch.arange(len(next(iter(shard.tensors.values()))))[rows].split(COLUMNS)
        return torch.cat([video_vectors(self.model.head, self._videos(shard, part)) for part in chosen])

    # --- reading files

    def _add(self, files: list[str], seconds: dict[str, float]) -> None:
        """Read, embed and add these files. seconds: duration of the indexed ones by the hash of their content."""
        entries, embedded, hashes, written = [], [], set(), time.monotonic()

        def write():
            if entries:
                self._index.add(entries, joined(embedded)._asdict() if embedded else None)
            entries.clear(), embedded.clear(), hashes.clear()

        with tqdm(total=len(files), desc="index", unit="file", disable=not files) as bar:
            try:
                for batch in self._read(files, seconds):
                    new = {}
                    for entry, frames in batch:
                        if not entry.reason and entry.hash not in hashes and not self._index.same_content(entry.hash):
                            new.setdefault(entry.hash, self._decode(entry.path) if frames is None else frames)
                    if new:
                        embedded.append(self._encode_frames(list(new.values())))
                        hashes |= new.keys()
                    entries += [entry for entry, _ in batch]
                    bar.update(len(batch))
                    if len(entries) >= ROWS or (self._index.folder and time.monotonic() - written > EVERY):
                        write()
                        written = time.monotonic()
            finally:  # what was embedded before Ctrl-C is kept
                write()

    def _read(self, files: list[str], seconds: dict[str, float]) -> Iterator[list[tuple[Entry, np.ndarray | None]]]:
        """What `_read_one` gives of every file, in batches; the next batch is decoded while one is encoded."""
        batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
        with ThreadPoolExecutor() as pool:
            ahead: list = []
            for batch in [*batches, []]:
                now, ahead = ahead, [pool.submit(self._read_one, file, seconds) for file in batch]
                if now:
                    yield [future.result() for future in now]

    def _read_one(self, file: str, seconds: dict[str, float]) -> tuple[Entry, np.ndarray | None]:
        """What a file is, and its frames: None where it cannot be read, or where `seconds` knows its content."""
        size = modified = content = None
        try:
            if os.path.isfile(file):
                status = os.stat(file)
                size, modified = status.st_size, status.st_mtime_ns
                with open(file, "rb") as opened:
                    content = hashlib.file_digest(opened, "sha256").hexdigest()
            if content in seconds:
                return Entry(file, size, modified, content, seconds[content]), None
            return Entry(file, size, modified, content, read_header(file).seconds), self._decode(file)
        except VideoError as error:
            return Entry(file, size, modified, content, 0.0, str(error)), None
        except OSError as error:
            reason = f"{file} cannot be read ({error.strerror}); look at its permissions"
            return Entry(file, size, modified, content, 0.0, reason), None

    def _decode(self, file: str) -> np.ndarray:
        return decode_frames(file, self.model.config.frames, self.processor.size)

    def _encode_frames(self, decoded: list[np.ndarray]):
        shape = (len(decoded), self.model.config.frames, self.processor.size, self.processor.size, 3)
        frames, mask = torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[:2], dtype=torch.long)
        for row, found in enumerate(map(torch.from_numpy, decoded)):
            frames[row, : len(found)], mask[row, : len(found)] = found, 1

        def encode(index: Tensor):
            images, present = frames[index].to(self.model.device), mask[index].to(self.model.device)
            return self.model.encode_videos(self.processor.normalise(images, present), present)

        return encode_all(encode, len(decoded))


def _milvus() -> type:
    """pymilvus is optional. Raises ImportError where it is not installed."""
    from glscl.milvus_index import MilvusIndex

    return MilvusIndex


def _settings(config: dict) -> dict:
    """A configuration without what says where and by which version it was written."""
    kept = sorted(name for name in config if name not in ("_name_or_path", "transformers_version", "dtype"))
    return {name: _settings(config[name]) if isinstance(config[name], dict) else config[name] for name in kept}


def _files_of(given: list[str | Path]) -> dict[str, None]:
    """The absolute paths of all videos that are named or lie in a named folder, each once, in order."""
    found: dict[str, str] = {}
    for one in given:
        path = os.path.abspath(os.fspath(one))
        for file in filter(is_video, files_under(path)) if os.path.isdir(path) else [path]:
            found.setdefault(os.path.realpath(file), file)
    return dict.fromkeys(found.values())


def _unchanged(file: str, known: Entry | None) -> bool:
    try:
        status = os.stat(file)
    except OSError:
        return False
    return known is not None and (known.size, known.modified) == (status.st_size, status.st_mtime_ns)


def _lies_in(path: str, given: list[str | Path]) -> bool:
    """Whether a path is one of those given, or lies in a given folder that is there: a disk may be unplugged."""
    named = [os.path.abspath(os.fspath(one)) for one in given]
    return any(path == one or (os.path.isdir(one) and path.startswith(one.rstrip(os.sep) + os.sep)) for one in named)
