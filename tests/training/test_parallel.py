"""Chunks and processes: the loss, the gradients and the weights are those of the whole batch in one process."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig

from glscl.methods import METHODS
from glscl.training import parallel
from glscl.training.parallel import Processes, whole_batch_gradients
from tests.conftest import TINY_CLIP

PAIRS, STEPS = 12, 3
ALONE = Processes(0, 1, torch.device("cpu"))
# Dropout draws other numbers for other parts, so it is off; T-MASS draws noise in its loss, NCL keeps recent batches.
QUIET = {"dropout": 0.0, "pooling_dropout": 0.0, "temporal_layers": 1}
CASES = {name: (name, {}) for name in METHODS} | {"ncl": ("mean_pooling", {"contrastive": "ncl"})}


def built(case):
    name, settings = CASES[case]
    known = METHODS[name].config_class().to_dict()
    settings = {k: v for k, v in (QUIET | {"words": 9, "frames": 6} | settings).items() if k in known}
    torch.manual_seed(0)
    return METHODS[name](METHODS[name].config_class(clip_config=CLIPConfig(**TINY_CLIP), **settings)).train()


def batches():
    """Tokens and pixels of `STEPS` batches of `PAIRS` pairs, with absent words and frames."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        words = torch.randint(3, 10, (PAIRS, 1), generator=generator)
        frames = torch.randint(1, 7, (PAIRS, 1), generator=generator)
        word_mask, frame_mask = (torch.arange(9) < words).long(), (torch.arange(6) < frames).long()
        yield {
            "token_ids": torch.randint(1, 48, (PAIRS, 9), generator=generator) * word_mask,
            "word_mask": word_mask,
            "pixels": torch.randn(PAIRS, 6, 3, 16, 16, generator=generator) * frame_mask[..., None, None, None],
            "frame_mask": frame_mask,
        }


def three_steps(case, processes, chunk):
    """The losses of three steps, the gradients of the first, and the weights after the last."""
    model = built(case)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    share = processes.share(PAIRS)
    own = slice(processes.rank * share, (processes.rank + 1) * share)
    losses, found = [], {}
    for step, batch in enumerate(batches()):
        torch.manual_seed(step)
        optimizer.zero_grad()
        terms = whole_batch_gradients(
            model,
            {name: tensor[own] for name, tensor in batch.items()},
            lambda part: (
                model.encode_texts(part["token_ids"], part["word_mask"]),
                model.encode_videos(part["pixels"], part["frame_mask"]),
            ),
            processes,
            chunk,
            (0, step),
        )
        losses.append({name: term.item() for name, term in terms.items()})
        if not step:
            found = {f"gradient.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
    found |= {f"weight.{name}": p.detach() for name, p in model.named_parameters()}
    return losses, {name: tensor.clone() for name, tensor in found.items()}


def assert_same(found, wanted, tolerance):
    for one, other in zip(found[0], wanted[0], strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance)
    assert found[1].keys() == wanted[1].keys()
    for name, tensor in wanted[1].items():
        scale = max(1.0, tensor.abs().max().item())
        torch.testing.assert_close(found[1][name], tensor, atol=tolerance * scale, rtol=0, msg=lambda m: f"{name}: {m}")  # noqa: B023


@pytest.mark.parametrize("case", CASES)
def test_chunks_give_loss_gradients_and_weights_of_the_whole_batch(case):
    whole = three_steps(case, ALONE, 0)
    assert whole[0][0]["total"] > 0
    for chunk in (5, 1):  # the last chunk of five is smaller
        assert_same(three_steps(case, ALONE, chunk), whole, 1e-5)


def in_a_group(rank, count, port, folder):
    torch.set_num_threads(1)
    place = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    parallel.os.environ.update({name: str(value) for name, value in place.items()})
    processes = Processes.of_launcher()
    for case in ("glscl", "x_clip", "t_mass", "ncl"):
        for chunk in (0, 4):
            losses, tensors = three_steps(case, processes, chunk)
            (folder / f"{case}-{chunk}-{rank}.json").write_text(json.dumps(losses))
            save_file(tensors, folder / f"{case}-{chunk}-{rank}.safetensors")
    said = {"first": processes.first_says(7.5 + rank)}
    try:
        processes.require_equal(rank, "epochs")
    except ValueError as error:
        said["error"] = str(error)
    (folder / f"said-{rank}.json").write_text(json.dumps(said))


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """What two processes of a launcher have computed, in a folder."""
    folder = tmp_path_factory.mktemp("group")
    from glscl.training.runs import _free_port, _start

    _start(in_a_group, 2, 2, _free_port(), folder)
    return folder


@pytest.mark.parametrize("chunk", [0, 4])
@pytest.mark.parametrize("case", ["glscl", "x_clip", "t_mass", "ncl"])
def test_two_processes_give_losses_gradients_and_weights_of_one(group, case, chunk):
    whole = three_steps(case, ALONE, 0)
    for rank in (0, 1):
        found = json.loads((group / f"{case}-{chunk}-{rank}.json").read_text())
        assert_same((found, load_file(group / f"{case}-{chunk}-{rank}.safetensors")), whole, 1e-6)


def test_the_first_process_speaks_for_all_and_differences_are_named(group):
    for rank in (0, 1):
        said = json.loads((group / f"said-{rank}.json").read_text())
        assert said == {
            "first": 7.5,
            "error": "all processes must see the same epochs, got [0, 1]; let the nodes share it.",
        }


def test_parts_draw_dropout_of_their_own_twice_the_same_and_leave_the_stream_alone():
    model, batch = built("glscl"), next(batches())
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    drawn = []

    def encode(part):
        drawn.append(torch.rand(2).tolist())
        return (
            model.encode_texts(part["token_ids"], part["word_mask"]),
            model.encode_videos(part["pixels"], part["frame_mask"]),
        )

    torch.manual_seed(3)
    whole_batch_gradients(model, batch, encode, ALONE, 4, (0, 1))
    after = torch.rand(2).tolist()
    assert drawn[:3] == drawn[3:]
    assert len({tuple(numbers) for numbers in drawn}) == 3
    torch.manual_seed(3)
    assert torch.rand(2).tolist() == after


def test_a_batch_that_the_processes_do_not_divide_is_an_error():
    with pytest.raises(ValueError, match="got 32 pairs for 3; choose a multiple"):
        Processes(0, 3, torch.device("cpu")).share(32)


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(parallel.torch, "cuda", SimpleNamespace(device_count=lambda: 2))
    assert parallel.usable_gpus() == [0, 1]
    assert parallel.usable_gpus([1]) == [1]
    with pytest.raises(ValueError, match=r"train\.devices must name GPUs of \[0, 1\], got 2"):
        parallel.usable_gpus([0, 2])
