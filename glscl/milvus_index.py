"""An index of videos in Milvus: a file of Milvus Lite, or a cluster at an address; the same calls for both.

Milvus holds a row per file: what the manifest of a folder says of it, the vectors of `glscl.first_stage` that Milvus
searches, a field each, and the embeddings, which a search fetches for its candidates and the head then scores. Rows
come from folders that `glscl index` wrote, on one machine or on many: `publish` makes the rows of a folder what the
folder is.

Embeddings are the bytes of a safetensors file in base64, as text: Milvus has no field for bytes, and Milvus Lite none
for half precision. Text has at most 65,535 bytes a field, so larger embeddings take several.
"""

import base64
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from glscl.video_index import Entry, Filter, Shard, VideoIndex

try:
    from pymilvus import DataType, MilvusClient
    from pymilvus.exceptions import MilvusException
except ImportError as error:
    raise ImportError(f"Milvus needs pymilvus, got {error}; install it with `pip install glscl[milvus]`.") from error

# pymilvus prints a traceback of every error that it raises, and Milvus Lite of a call that pymilvus does without.
for _name in ("pymilvus", "grpc._server"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
COLLECTION, ABOUT = "glscl_videos", "glscl"
TEXT = 65_532  # bytes of a field of embeddings: the most that Milvus takes, in whole groups of base64
BATCH = 128  # rows that travel together: some megabytes
SECONDS = 60.0  # to wait for an answer


class Published(NamedTuple):
    """How many files of a folder `publish` wrote, found as they are, and dropped, as the folder has them no more."""

    written: int
    unchanged: int
    dropped: int


class MilvusIndex:
    """The videos at an address: `http://host:19530`, `http://host:19530/database`, or a file that ends in .db."""

    def __init__(self, address: str):
        """Connect. Raises ValueError where nobody answers, or another process has the file open.

        A cluster that asks for a token finds it in the environment, as MILVUS_TOKEN.
        """
        self.address, self._names = address, []
        with self._answers():
            self._client = MilvusClient(address, token=os.environ.get("MILVUS_TOKEN", ""), timeout=SECONDS)

    @classmethod
    def open(cls, address: str) -> "MilvusIndex":
        """What was published at an address. Raises FileNotFoundError where nothing was."""
        absent = FileNotFoundError(f"{address} holds no index; publish one with glscl publish.")
        if "://" not in address and not os.path.exists(address):
            raise absent  # Milvus Lite would make the file
        index = cls(address)
        with index._answers():
            if not index._client.has_collection(COLLECTION):
                index.close()
                raise absent
            index._client.load_collection(COLLECTION)
        return index

    def close(self) -> None:
        """Disconnect, and so let go of a file."""
        self._client.close()

    def about(self) -> dict:
        """What the embeddings were made with, as the folders say; {} before the first of them."""
        with self._answers():
            if not self._client.has_collection(COLLECTION):
                return {}
            return json.loads(self._client.describe_collection(COLLECTION)["properties"][ABOUT])

    def __len__(self) -> int:
        with self._answers():
            (row,) = self._client.query(COLLECTION, filter="", output_fields=["count(*)"])
        return row["count(*)"]

    def publish(
        self, index: VideoIndex, about: dict, vectors: Callable[[dict[str, Tensor]], Tensor], progress: bool = True
    ) -> Published:
        """Make the rows of an index what it is: write what is new or has changed, and drop what is there no more.

        A batch that Milvus has is not sent again, so the same call goes on after a kill. about: `method`, `fingerprint`
        and the like, the same for all indexes at an address. vectors: embeddings (files, ...) by name -> vectors of the
        first stage (files, vectors, numbers). Raises ValueError where another model made what is there.
        """
        present = self.about()
        if present and present["fingerprint"] != about["fingerprint"]:
            raise ValueError(
                f"{self.address} has videos of {present['method']} {present['fingerprint']}, got those of "
                f"{about['method']} {about['fingerprint']}; publish them into another file or database."
            )
        entries = {entry.path: entry for entry in index.entries() if not entry.reason}
        written = 0
        with tqdm(total=len(entries), desc="publish", unit="file", disable=not progress) as bar, self._answers():
            for shard in index.shards():
                for batch in _batches(shard):
                    files = [(entries[path], row) for path, row in batch]
                    if new := self._changed(files) if present else files:
                        embeddings = shard.embeddings(torch.tensor([row for _, row in new]))
                        rows = _rows(new, shard, vectors(embeddings), index.id)
                        present = present or self._create(rows[0], about)
                        self._client.upsert(COLLECTION, rows)
                    written += len(new)
                    bar.update(len(batch))
            dropped = self._drop(index.id, {_id(path) for path in entries}) if present else 0
        return Published(written, len(entries) - written, dropped)

    def candidates(self, vector: Tensor, count: int, where: Filter) -> tuple[list[str], dict[str, Tensor]]:
        """The `count` best videos by their best inner product with `vector` (numbers,), of those that pass `where`.

        Returns their paths, and their embeddings (videos, ...) by name.
        """
        best: dict[str, float] = {}
        with self._answers():
            for field in self._fields("vector_"):
                (found,) = self._client.search(
                    COLLECTION,
                    data=[vector.tolist()],
                    anns_field=field,
                    limit=count,
                    filter=_expression(where),
                    search_params={"metric_type": "IP"},
                )
                for hit in found:
                    best[hit["id"]] = max(hit["distance"], best.get(hit["id"], -math.inf))
            ids = sorted(best, key=best.get, reverse=True)[:count]
            texts = self._fields("embedding_")
            rows = self._of(ids, ["path", *texts]) if ids else []
        loaded = [safetensors.torch.load(base64.b64decode("".join(row[name] for name in texts))) for row in rows]
        stacked = {name: torch.stack([one[name] for one in loaded]) for name in (loaded[0] if loaded else ())}
        return [row["path"] for row in rows], Shard(0, {}, stacked).embeddings(torch.arange(len(rows)))

    def _of(self, ids: list[str], fields: list[str]) -> list[dict]:
        """The rows of these ids, in any order."""
        # Milvus Lite looks up a plain list of ids one by one, each by reading all rows; every row has a source.
        listed = f'source != "" and id in {json.dumps(ids)}'
        return self._client.query(COLLECTION, filter=listed, output_fields=["id", *fields])

    def _fields(self, beginning: str) -> list[str]:
        """Names of the fields that begin so, in order."""
        if not self._names:
            self._names = [field["name"] for field in self._client.describe_collection(COLLECTION)["fields"]]
        return sorted(name for name in self._names if name.startswith(beginning))

    def _create(self, row: dict, about: dict) -> dict:
        """Make the collection for rows like this one; AUTOINDEX is what a cluster's settings say."""
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=32)
        schema.add_field("path", DataType.VARCHAR, max_length=4096 * 4)
        schema.add_field("seconds", DataType.DOUBLE)
        schema.add_field("modified", DataType.INT64)
        schema.add_field("version", DataType.VARCHAR, max_length=32)
        schema.add_field("source", DataType.VARCHAR, max_length=32)
        indexes = self._client.prepare_index_params()
        for name, value in row.items():
            if name.startswith("embedding_"):
                schema.add_field(name, DataType.VARCHAR, max_length=TEXT)
            elif name.startswith("vector_"):
                schema.add_field(name, DataType.FLOAT_VECTOR, dim=len(value))
                indexes.add_index(name, index_type="AUTOINDEX", metric_type="IP")
        for name in ("path", "seconds", "modified", "source"):
            indexes.add_index(name, index_type="INVERTED")
        properties = {ABOUT: json.dumps(about)}
        self._client.create_collection(COLLECTION, schema=schema, index_params=indexes, properties=properties)
        return about

    def _changed(self, files: list[tuple[Entry, int]]) -> list[tuple[Entry, int]]:
        """Those files whose row in Milvus is absent or another one."""
        ids = [_id(entry.path) for entry, _ in files]
        there = {row["id"]: row["version"] for row in self._of(ids, ["version"])}
        return [file for file in files if there.get(_id(file[0].path)) != _version(file[0])]

    def _drop(self, source: str, kept: set[str]) -> int:
        """Drop the rows of a source but those to be kept, by their ids."""
        rows = self._client.query_iterator(
            COLLECTION, filter=f'source == "{source}"', output_fields=["id"], batch_size=1000
        )
        gone: list[str] = []
        while batch := rows.next():
            gone += [row["id"] for row in batch if row["id"] not in kept]
        rows.close()
        for start in range(0, len(gone), BATCH):
            self._client.delete(COLLECTION, ids=gone[start : start + BATCH])
        return len(gone)

    @contextmanager
    def _answers(self):
        """Context in which what Milvus says is an error of one sentence."""
        try:
            yield
        except MilvusException as error:
            raise ValueError(
                f"Milvus at {self.address} does not answer ({' '.join(error.message.split())}); see that it runs, and "
                "that no other process has the file open."
            ) from error


def _batches(shard: Shard) -> Iterator[list[tuple[str, int]]]:
    """The paths of a shard with their rows."""
    files = [(path, row) for row, paths in shard.paths.items() for path in paths]
    return (files[start : start + BATCH] for start in range(0, len(files), BATCH))


def _rows(files: list[tuple[Entry, int]], shard: Shard, vectors: Tensor, source: str) -> list[dict]:
    """What Milvus holds of these files."""
    found = []
    for (entry, row), own in zip(files, vectors.tolist(), strict=True):
        content = safetensors.torch.save({name: tensor[row].clone() for name, tensor in shard.tensors.items()})
        text = base64.b64encode(content).decode()
        parts = [text[start : start + TEXT] for start in range(0, len(text), TEXT)]
        about = {"id": _id(entry.path), "path": entry.path, "seconds": entry.seconds, "modified": entry.modified}
        about |= {"version": _version(entry), "source": source}
        about |= {f"vector_{place}": vector for place, vector in enumerate(own)}
        found.append(about | {f"embedding_{place:02d}": part for place, part in enumerate(parts)})
    return found


def _id(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def _version(entry: Entry) -> str:
    return hashlib.sha256(repr(entry).encode()).hexdigest()[:32]


def _expression(where: Filter) -> str:
    """A filter as Milvus reads it; JSON quotes text as its expressions do."""
    return " and ".join(f"{name} {sign} {json.dumps(value, ensure_ascii=False)}" for name, sign, value in where.terms())
