"""Runs of one method over several seeds: build, train, keep with a model card, load again."""

import hashlib
import json
import multiprocessing
import os
import shutil
import socket
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from glscl.base import RetrievalModel, load_backbone
from glscl.child_process import end_with_parent
from glscl.code_hash import hash_of
from glscl.data.dataset import PreparedCorpus
from glscl.data.processor import Processor
from glscl.files import naming_full_disk, put_in_place, write_json
from glscl.locks import alone
from glscl.methods import METHODS, load_trained
from glscl.training.parallel import Processes, usable_gpus
from glscl.training.trainer import TrainSettings, train

# DVC deletes the outputs of a stage before it runs the stage again, so what a resume needs lies elsewhere.
UNFINISHED = Path("work/.unfinished")
TRAINED = "GLSCL_TRAINED"  # in the environment of a stage: a file that lists what it trained, by patterns of folders


class Job(NamedTuple):
    """What every seed of one method is trained with; name: what the lines of its epochs call it."""

    method: str
    model: dict
    corpus: PreparedCorpus
    settings: TrainSettings
    seeds: list[int]
    start: Path | None = None
    name: str = ""

    def about(self) -> dict:
        """What the result depends on."""
        data, validation = self.corpus.split("train"), self.corpus.split("val")
        return {
            "method": self.method,
            "model": self.model | {"words": self.corpus.processor.words, "frames": data.frames},
            "train": asdict(self.settings),
            "data": [data.fingerprint(), validation.fingerprint()],
            "pixels": self.corpus.processor.images.to_json_string(),
            "code": hash_of(__name__),
        }


def train_seeds(
    method: str,
    model: dict,
    corpus: PreparedCorpus,
    settings: TrainSettings,
    seeds: list[int],
    folder: Path,
    start: Path | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train `method` once per seed and write `folder/seed-<seed>/`; return learning curves and clocks of all seeds.

    model: settings of the method's configuration. start: folder of another method that this function trained; each seed
    begins with what its head can take of that run, `init_from`. Each folder holds the selected model (`from_pretrained`
    loads it, `glscl.retriever` searches with it), the weights of the last epoch in `last.safetensors`, the curve, and a
    model card. The folder appears when all are complete, and holds nothing that was measured. The clocks say how long
    each epoch took: columns seed, epoch, seconds, items_per_second, data_wait_share. The trained weights also stay in
    work/.unfinished until the stage is complete, so that one that fails later trains nothing again; what a file that
    the environment names as `TRAINED` lists is what the stage then removes, so that a forced one trains. Where another
    process trains these seeds, this one waits and then finds them trained.
    Without a GPU the seeds are trained side by side, each in a process of its own; a head over a frozen CLIP uses one
    thread, so that its weights do not depend on the number of cores. On several GPUs they are too, and where there are
    more GPUs than seeds a seed has several. In processes of a launcher, such as `torchrun`, all train each seed.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be one or more different numbers, got {seeds}; correct `seeds` in params.yaml.")
    name = folder.name.removeprefix(".").partition("-")[0]  # that of a sweep over rates ends in its number
    job = Job(method, model, corpus, settings, seeds, start, name)
    about = job.about()
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    if listed := os.environ.get(TRAINED):
        with open(listed, "a") as file:
            file.writelines(f"{(UNFINISHED / key).resolve()}/seed-{seed}-*\n" for seed in seeds)
    # Other seeds of the same job may be trained in another process at the same time.
    complete = UNFINISHED / key / f"complete-{'-'.join(map(str, seeds))}"
    processes = Processes.of_launcher(settings.devices)
    lock, waits = complete.with_name(f".{complete.name}.lock"), processes.count == 1
    once = alone(lock, f"trains {folder}", waits) if processes.writes else nullcontext()
    with naming_full_disk(UNFINISHED), once:
        return _train_all(job, about, complete, folder, processes)


def _train_all(
    job: Job, about: dict, complete: Path, folder: Path, processes: Processes
) -> tuple[pd.DataFrame, pd.DataFrame]:
    seeds, settings = job.seeds, job.settings
    if processes.writes:
        shutil.rmtree(complete, ignore_errors=True)
    processes.wait()
    gpus = usable_gpus(settings.devices)
    if processes.count > 1 or len(gpus) == 1 or (len(seeds) == 1 and not gpus):
        threads = torch.get_num_threads()
        for number in range(len(seeds)):
            _train_seed(number, job, about, complete)
        torch.set_num_threads(threads)
    elif gpus:
        _train_on(len(gpus), job, about, complete)
    else:
        _start(_train_seed, len(seeds), job, about, complete, len(seeds))
    if processes.writes:
        write_json(complete / "settings.json", {name: about[name] for name in ("method", "model", "train")})
        put_in_place(complete, folder)
    processes.wait()
    curves = [pd.read_csv(folder / f"seed-{seed}/curve.csv") for seed in seeds]
    clocks = [pd.read_csv(complete.parent / f"clock-{seed}.csv") for seed in seeds]
    processes.wait()  # before one of them removes the folder
    return pd.concat(curves, ignore_index=True), pd.concat(clocks, ignore_index=True)


def _start(call, count: int, *given) -> None:
    """call(number, *given) in `count` processes; a server that has imported what training needs forks them."""
    multiprocessing.set_forkserver_preload([__name__])  # the imports take as long as an epoch
    torch.multiprocessing.start_processes(call, given, nprocs=count, start_method="forkserver")


def _train_on(gpus: int, job: Job, about: dict, complete: Path) -> None:
    """Train as many seeds at once as there are GPUs; GPUs that are left over help, where they divide a batch."""
    for first in range(0, len(job.seeds), gpus):
        numbers = range(first, min(first + gpus, len(job.seeds)))
        each = next(n for n in range(gpus // len(numbers), 0, -1) if job.settings.batch_size % n == 0)
        print(f"{len(numbers)} seeds at once, each on {each} of {gpus} GPUs", flush=True)
        ports = [_free_port() for _ in numbers]
        _start(_train_together, len(numbers) * each, numbers, each, ports, job, about, complete)


def _train_together(place: int, numbers, each: int, ports: list[int], job: Job, about: dict, complete: Path) -> None:
    group, rank = divmod(place, each)
    told = {"RANK": rank, "WORLD_SIZE": each, "LOCAL_RANK": place, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in (told | {"MASTER_PORT": ports[group]}).items()})
    _train_seed(numbers[group], job, about, complete, len(numbers) * each)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _train_seed(number: int, job: Job, about: dict, complete: Path, processes: int = 1) -> None:
    if multiprocessing.parent_process():
        end_with_parent()
    if job.corpus.backbone == "frozen":
        torch.set_num_threads(1)  # sums of floats depend on the number of threads, and a head gains little from more
    elif processes > 1:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
    seed = job.seeds[number]
    torch.manual_seed(seed)
    backbone = load_backbone(job.corpus.clip, job.corpus.backbone, job.corpus.processor)
    model = METHODS[job.method].from_clip(backbone, **about["model"])
    if job.start:
        model.head.init_from(load_run(job.start / f"seed-{seed}").head)
    state = complete.parent / f"seed-{seed}-{_fingerprint(model)}"
    splits = job.corpus.split("train"), job.corpus.split("val")
    bar = processes == 1 and not multiprocessing.parent_process()  # several bars would overwrite each other
    train(model, *splits, job.settings, seed, state, bar, job.name)
    together = Processes.of_launcher(job.settings.devices)
    if together.writes:
        shutil.copy(state / "clock.csv", complete.parent / f"clock-{seed}.csv")
        _keep(model, job.corpus.processor, state, complete / f"seed-{seed}", about)
    together.wait()


def _keep(model: RetrievalModel, processor: Processor, state: Path, folder: Path, about: dict) -> None:
    trained = load_file(state / "selected.safetensors")
    model.load_state_dict(model.state_dict() | trained)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for file in (state / "last.safetensors", state / "curve.csv", *state.glob("after-*.safetensors")):
        shutil.copy(file, folder)
    curve = pd.read_csv(state / "curve.csv")
    best = curve.loc[curve["val_r1"].idxmax()]
    settings = "\n".join(f"| {name} | {value} |" for name, value in (about["model"] | about["train"]).items())
    card = CARD.format(
        model=type(model).__name__,
        parameters=sum(p.numel() for p in model.parameters()),
        seed=int(best["seed"]),
        epoch=int(best["epoch"]),
        epochs=len(curve),
        recall=best["val_r1"],
        settings=settings,
    )
    (folder / "README.md").write_text(card)


CARD = """# {model}

Text-video retrieval model of the GLSCL study (arXiv 2405.12710), {parameters:,} parameters, seed {seed}.

    from glscl import Retriever
    retriever = Retriever.from_pretrained("this folder")

**Selection.** Epoch {epoch} of {epochs}: the best text-to-video R@1 on the validation split, {recall:.1f} %.
The test split had no part in it.

**Use.** Search among videos of the kind that it was trained on. A model trained on the bundled drawn clips knows
drawn shapes and nothing of the world; it shows that the method runs, not how well it searches real footage.

| setting | value |
|---|---|
{settings}
"""


def _fingerprint(model: RetrievalModel) -> str:
    """Hash of the weights that a run starts from, so that it never resumes from another CLIP."""
    digest = hashlib.sha256()
    for weight in model.state_dict().values():
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()[:8]


def load_run(folder: Path, selection: str = "selected") -> RetrievalModel:
    """A model that `train_seeds` kept, in evaluation mode, on the GPU if any.

    selection: the `selected` epoch, the `last` one, or another file of weights in the folder, by its stem.
    """
    model = load_trained(folder)
    if selection != "selected":
        _take(model, Path(folder) / f"{selection}.safetensors")
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _take(model: RetrievalModel, file: Path) -> None:
    """Give a model the weights in a file, which holds those that were trained: the head's, and CLIP's or none."""
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be loaded ({error}); copy the run or train it again.") from error
    own = model.state_dict()
    missing = {
        f"head.{name}" for name, weight in model.head.named_parameters() if weight.requires_grad
    } - weights.keys()
    strange = {name for name, weight in weights.items() if name not in own or weight.shape != own[name].shape}
    if wrong := sorted(missing | strange):
        raise ValueError(f"{file} should hold the trained weights of its run, {wrong[0]} does not fit; train it again.")
    model.load_state_dict(own | weights)
