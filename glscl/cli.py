"""The command `glscl`: index a folder of videos, publish it in Milvus, search it, and say what an index holds."""

import argparse
import html
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from transformers.utils import logging

import glscl
from glscl.files import full_disk, write_text
from glscl.locks import BusyError

MEGABYTES = 50  # of clips in a page, at most
DRAWN = 128  # pixels: a CLIP with smaller pictures is the bundled one
NOTE = (
    "This model reads pictures of {size} pixels: it is one of the study's small models, which have seen nothing but "
    "drawn shapes. For videos of the world name a real CLIP, such as openai/clip-vit-base-patch32."
)


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit status: 0, or 1 where it failed, after one sentence on stderr."""
    arguments = parser().parse_args(argv)
    logging.disable_progress_bar()
    warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("stopped; what was indexed so far is kept, and the same command goes on from there.", file=sys.stderr)
        return 130
    except Exception as error:
        told = full_disk(error, getattr(arguments, "index", "."))
        if not told and not isinstance(error, ValueError | OSError | ImportError | BusyError):
            raise
        print(f"glscl: {told or error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    whole = argparse.ArgumentParser(prog="glscl", description="Search videos by sentences.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__, help=about, description=about)
        added.set_defaults(run=run)
        return added

    one = command(index, "Add the videos of files and folders to an index; what is unchanged is not read again.")
    one.add_argument("videos", nargs="+", metavar="FOLDER", help="a folder, with all its sub-folders, or a file")
    one.add_argument("--index", required=True, metavar="INDEX", help="folder of the index, made where it is absent")
    one.add_argument("--model", help="folder of a trained model or of a CLIP, or a name; needed for a new index")
    one.add_argument("--frames", type=int, default=12, help="per video, where the model is a plain CLIP (default 12)")
    one.add_argument("--prune", action="store_true", help="drop files that lie in the folders no more")

    one.add_argument("--shard", type=share, default=(1, 1), metavar="N/M", help="only the Nth of M shares of the files")

    one = command(publish, "Make Milvus have what indexes have; what it has already is not sent again.")
    one.add_argument("indexes", nargs="+", metavar="INDEX")
    one.add_argument("--to", required=True, metavar="ADDRESS", help="http://host:19530, or a file that ends in .db")
    one.add_argument("--model", help="where the model lies that made the indexes, if it was moved")

    one = command(search, "The best videos for each sentence.")
    one.add_argument("index", metavar="INDEX", help="folder of an index, or an address that it was published at")
    one.add_argument("sentences", nargs="+", metavar="SENTENCE")
    one.add_argument("-k", type=int, default=10, help="videos per sentence (default 10)")
    one.add_argument("--model", help="where the model lies that made the index, if it was moved")
    one.add_argument("--candidates", type=int, default=0, metavar="N", help="score N videos that a first stage finds")
    one.add_argument("--folder", help="only videos in this folder and its sub-folders")
    one.add_argument("--shortest", type=float, metavar="SECONDS", help="only videos of at least this duration")
    one.add_argument("--longest", type=float, metavar="SECONDS", help="only videos of at most this duration")
    one.add_argument("--since", metavar="DATE", help="only files changed on that day or later, like 2026-01-31")
    one.add_argument("--before", metavar="DATE", help="only files changed before that day")
    one.add_argument("--html", type=Path, metavar="PAGE", help="write a page that plays the clips, without a network")
    one.add_argument("--json", action="store_true", help="print JSON instead of lines")

    one = command(info, "What an index holds.")
    one.add_argument("index", metavar="INDEX", help="folder of an index, or an address that it was published at")
    one.add_argument("--json", action="store_true", help="print JSON, with an entry for every file")
    return whole


def share(text: str) -> tuple[int, int]:
    """(3, 16) of 3/16."""
    part, _, parts = text.partition("/")
    return int(part), int(parts)


def index(arguments: argparse.Namespace) -> None:
    """`glscl index`."""
    if (Path(arguments.index) / "manifest.sqlite").exists():
        retriever = glscl.Retriever.load(arguments.index, arguments.model)
    elif not arguments.model:
        raise ValueError(f"{arguments.index} is a new index, which needs a model: add --model FOLDER.")
    else:
        retriever = glscl.Retriever.open(arguments.model, arguments.frames)
        retriever.save(arguments.index)
    if note := note_of(retriever):
        print(note, file=sys.stderr)
    changes = retriever.index(arguments.videos, arguments.prune, arguments.shard)
    gone = f"{changes.gone} gone"
    if changes.gone:
        gone += " and dropped" if arguments.prune else " but kept (--prune drops them)"
    print(
        f"{changes.added} added, {changes.updated} updated, {changes.unchanged} unchanged, {changes.unreadable} "
        f"unreadable, {gone}: {len(retriever.paths):,} videos in {arguments.index}"
    )


def publish(arguments: argparse.Namespace) -> None:
    """`glscl publish`."""
    for folder in arguments.indexes:
        retriever = glscl.Retriever.load(folder, arguments.model)
        done = retriever.publish(arguments.to)
        print(f"{folder}: {done.written} written, {done.unchanged} unchanged, {done.dropped} dropped at {arguments.to}")


def search(arguments: argparse.Namespace) -> None:
    """`glscl search`."""
    from glscl.video_index import Filter

    retriever = glscl.Retriever.load(arguments.index, arguments.model)
    sentences = list(dict.fromkeys(arguments.sentences))
    where = Filter(*(getattr(arguments, name) for name in Filter._fields))
    found = dict(zip(sentences, retriever.search(sentences, arguments.k, where, arguments.candidates), strict=True))
    if arguments.json:
        as_text = {s: [{"file": str(path), "score": score} for path, score in hits] for s, hits in found.items()}
        print(json.dumps(as_text, indent=2, ensure_ascii=False))
    else:
        for sentence, hits in found.items():
            print(sentence)
            for rank, (path, score) in enumerate(hits, 1):
                print(f"{rank:4d}  {score:.3f}  {path}")
    if arguments.html:
        write_text(arguments.html, page_of(found, note_of(retriever)))
        print(f"the page: {arguments.html}", file=sys.stderr)


def info(arguments: argparse.Namespace) -> None:
    """`glscl info`."""
    from glscl.video_index import VideoIndex, is_address

    if is_address(arguments.index):
        from glscl.milvus_index import MilvusIndex

        published = MilvusIndex.open(arguments.index)
        print(json.dumps({"videos": len(published), "about": published.about()}, indent=2))
        return
    index = VideoIndex.open(arguments.index)
    entries, about = list(index.entries()), index.about()
    unreadable = [entry.reason for entry in entries if entry.reason]
    hours = sum(entry.seconds for entry in entries) / 3600
    size = sum(file.stat().st_size for file in Path(arguments.index).glob("*"))
    if arguments.json:
        print(json.dumps({"about": about, "files": [entry._asdict() for entry in entries]}, indent=2))
        return
    print(f"{len(index):,} videos, {hours:.1f} hours, {size / 1e6:.3g} MB")
    print(
        f"model: {about['method']} {about['fingerprint']}, {about['frames']} frames, from {about['model'] or 'memory'}"
    )
    print(f"unreadable: {len(unreadable)}")
    for reason in unreadable:
        print(f"  {reason}")


def note_of(retriever) -> str:
    """A warning where a model can know nothing of the world; else nothing."""
    size = retriever.processor.size
    return NOTE.format(size=size) if size < DRAWN else ""


def page_of(found: dict[str, list[tuple[Path, float]]], note: str) -> str:
    """A page with the clips of each sentence inside it; all text is escaped."""
    from glscl.report.clips import clips_html, with_places
    from glscl.report.page import page

    shown = {sentence: with_places(hits) for sentence, hits in found.items()}
    warned = f'<p class="headline">{html.escape(note)}</p>' if note else ""
    return page("Search", f"<h1>Search</h1>{warned}{clips_html(shown, MEGABYTES)}")


if __name__ == "__main__":
    sys.exit(main())
