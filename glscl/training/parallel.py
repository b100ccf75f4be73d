"""Gradients of a whole batch that is computed in parts: chunks one after another, processes side by side.

The contrastive loss compares every text of a batch with every video, so its gradient does not come apart as that of
other losses does. It does at the embeddings (gradient caching, Gao et al. 2021, arXiv 2101.06983): encode all parts,
gather the embeddings, compute loss and gradient of the whole batch there, and send each part its rows of that gradient
through the encoders. The memory of the encoders is then that of one part, and every process holds the same gradient.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from glscl.base import RetrievalModel, detached, joined


@dataclass(frozen=True)
class Processes:
    """The processes that train one run together: the number of this one, how many there are, its device."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def of_launcher(cls, devices: list[int] = ()) -> "Processes":
        """Those that `torchrun` or `accelerate launch` started, which set RANK and WORLD_SIZE; without one, this alone.

        devices: GPUs that may be used, by number; none names all. A process takes the one of its LOCAL_RANK.
        Raises ValueError where there is no such GPU.
        """
        rank, count, place = (int(os.environ.get(name, alone)) for name, alone in PLACE.items())
        device = torch.device("cpu")
        if torch.cuda.is_available():
            found = usable_gpus(devices)
            if place >= len(found):
                raise ValueError(f"process {place} needs a GPU of its own, got {len(found)}; start as many processes.")
            device = torch.device("cuda", found[place])
            torch.cuda.set_device(device)
        if count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=rank, world_size=count)
        return cls(rank, count, device)

    @staticmethod
    def launched() -> bool:
        """Whether a launcher has started this process as one of several."""
        return int(os.environ.get("WORLD_SIZE", 1)) > 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            dist.barrier()

    def share(self, pairs: int) -> int:
        """Pairs of a batch that each process encodes. Raises ValueError where they do not come out equal."""
        if pairs % self.count:
            raise ValueError(
                f"a batch is divided among the processes, got {pairs} pairs for {self.count}; choose a multiple as "
                "train.batch_size, or as many processes as divide it."
            )
        return pairs // self.count

    def gathered(self, embeddings):
        """Embeddings of all processes, joined along the items in the order of the processes; outside the graph."""
        if self.count == 1:
            return embeddings
        parts = [[torch.empty_like(tensor) for _ in range(self.count)] for tensor in embeddings]
        for part, tensor in zip(parts, embeddings, strict=True):
            dist.all_gather(part, tensor.contiguous())
        return type(embeddings)(*(torch.cat(part) for part in parts))

    def add_gradients(self, model: RetrievalModel) -> None:
        """Replace every gradient by its sum over the processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        for dtype in {gradient.dtype for gradient in gradients}:
            same = [gradient for gradient in gradients if gradient.dtype == dtype]
            flat = torch.cat([gradient.flatten() for gradient in same])
            dist.all_reduce(flat)
            for gradient, total in zip(same, flat.split([g.numel() for g in same]), strict=True):
                gradient.copy_(total.view_as(gradient))

    def require_equal(self, number: int, what: str) -> None:
        """Raise a ValueError unless the number is the same in all processes."""
        if self.count > 1:
            numbers = [torch.zeros(1, dtype=torch.long, device=self.device) for _ in range(self.count)]
            dist.all_gather(numbers, torch.tensor([number], device=self.device))
            found = [int(other) for other in numbers]
            if len(set(found)) > 1:
                raise ValueError(f"all processes must see the same {what}, got {found}; let the nodes share it.")

    def first_says(self, number: float) -> float:
        """The number of the first process, in all processes."""
        if self.count == 1:
            return number
        said = torch.tensor([number], dtype=torch.float64, device=self.device)
        dist.broadcast(said, 0)
        return said.item()


PLACE = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}  # what launchers set, and its value without one


def usable_gpus(devices: list[int] = ()) -> list[int]:
    """GPUs of this machine by number: those of `devices`, or all. Raises ValueError at one that is not there."""
    found = range(torch.cuda.device_count())
    if absent := set(devices) - set(found):
        raise ValueError(
            f"train.devices must name GPUs of {list(found)}, got {min(absent)}; correct it, or [] for all."
        )
    return list(devices) or list(found)


def mixed(*numbers: int) -> int:
    """A seed that is another one for other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def whole_batch_gradients(
    model: RetrievalModel,
    batch: dict[str, Tensor],
    encode: Callable[[dict], tuple],
    processes: Processes,
    chunk: int,
    seed: tuple[int, ...],
) -> dict[str, Tensor]:
    """Add the gradient of the loss over the batches of all processes to the parameters; return the terms of the loss.

    batch: this process's pairs. encode: batch -> embeddings of its texts and of its videos. chunk: pairs that are
    encoded at a time; 0: all. seed: of the dropout, from which every process and chunk draws its own; with one process
    and one chunk the random numbers are those that come next.
    """
    pairs = len(batch["word_mask"])
    size = chunk or pairs
    if processes.count == 1 and size >= pairs:
        terms = model.loss(*encode(batch))
        terms["total"].backward()
        return terms
    parts = [{name: tensor[first : first + size] for name, tensor in batch.items()} for first in range(0, pairs, size)]

    def encoded(number: int):
        with _random(mixed(*seed, processes.rank, number), processes.device):
            return encode(parts[number])

    whole = len(parts) == 1  # then what is encoded first can keep its graph
    with torch.set_grad_enabled(whole):
        outputs = [encoded(number) for number in range(len(parts))]
    sides = [processes.gathered(joined([detached(out) for out in side])) for side in zip(*outputs, strict=True)]
    for tensor in (tensor for side in sides for tensor in side if tensor.is_floating_point()):
        tensor.requires_grad_()
    terms = model.loss(*sides)
    terms["total"].backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= processes.count  # every process has computed it, and they are added up below
    for number in range(len(parts)):
        first = processes.rank * pairs + number * size
        rows = slice(first, first + len(parts[number]["word_mask"]))
        output = outputs[number] if whole else encoded(number)
        grown = [
            (tensor, cached.grad[rows])
            for side, whole_side in zip(output, sides, strict=True)
            for tensor, cached in zip(side, whole_side, strict=True)
            if tensor.requires_grad and cached.grad is not None
        ]
        if grown:
            torch.autograd.backward(*zip(*grown, strict=True))
    processes.add_gradients(model)
    return terms


@contextmanager
def _random(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers of a seed of their own, on the CPU and on the device; those from outside go on afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
