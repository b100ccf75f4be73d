"""What one process at a time may do, and which one does it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout


class BusyError(RuntimeError):
    """Another process does what this one was asked for; the message says which, and since when."""


@contextmanager
def alone(lock: Path, does: str, wait: bool = False) -> Iterator[None]:
    """Context that one process at a time is in. A process that ends, however that comes about, has left it.

    lock: a file, which is there meanwhile, beside one that names the process; the folder is made. does: what is done in
    the context, for the message: "writes the index videos". wait: for the process that is in it, after a line that
    names it. Else raises BusyError.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder, own = lock.with_name(f"{lock.name}.holder"), FileLock(lock)
    try:
        own.acquire(timeout=0)
    except Timeout:
        known = holder.read_text(encoding="utf-8") if holder.is_file() else ""
        told = f"{known or 'another process'} {does}"
        if not wait:
            raise BusyError(f"{told}; wait until it has ended, or end it, then run the same command again.") from None
        print(f"{told}; this one waits for it.", flush=True)
        own.acquire()
    try:
        holder.write_text(f"process {os.getpid()} (since {datetime.now():%Y-%m-%d %H:%M:%S})", encoding="utf-8")
        yield
    finally:
        for left in (holder, lock):  # while it is locked: who has opened the old name then asks for the new one
            left.unlink(missing_ok=True)
        own.release()
