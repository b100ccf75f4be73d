"""A CLIP is loaded whole or not at all: folders that users have, made whole and then broken in one way each."""

import json
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipConfig,
    SiglipModel,
)

from glscl import GLSCL, METHODS, Retriever, load_run, pretrained
from glscl.base import load_backbone, load_clip
from glscl.data.processor import Processor, images_of
from glscl.pretrained import located, model_type
from tests.conftest import TINY_CLIP

WORDS = 12
METADATA = {"format": "pt"}


def make_clip(folder, tokenizer, dtype=torch.float32, **changes):
    """Write a CLIP of frames of 16 pixels with this tokenizer into a folder; changes: of the configuration."""
    torch.manual_seed(0)
    text = TINY_CLIP["text_config"] | {"vocab_size": len(tokenizer)}
    text |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    towers = {"text_config": text, "vision_config": TINY_CLIP["vision_config"]}
    towers = {name: tower | changes.pop(name, {}) for name, tower in towers.items()}
    model = CLIPModel(CLIPConfig(**({"projection_dim": 32} | changes | towers))).to(dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images_of(16).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def tokenizer(bundled):
    return Processor.from_pretrained(bundled / "tiny-clip", WORDS).tokenizer


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    make_clip(folder, tokenizer)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A CLIP that is whole, to be broken."""
    return shutil.copytree(whole, tmp_path / "clip")


def change_json(file, **entries):
    found = json.loads(file.read_text())
    for name, value in entries.items():
        found[name] = found[name] | value if isinstance(value, dict) else value
    file.write_text(json.dumps(found))


def change_weights(folder, change):
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", METADATA)


def other_names(folder):
    change_weights(folder, lambda weights: {f"module.{name}": weight for name, weight in weights.items()})


def no_projection(folder):
    change_weights(folder, lambda w: {name: weight for name, weight in w.items() if "projection" not in name})


def image_tower_alone(folder):
    change_weights(folder, lambda w: {name: weight for name, weight in w.items() if name.startswith("vis")})


def deeper(folder):
    change_json(folder / "config.json", vision_config={"num_hidden_layers": 2})


def shallower(folder):
    change_json(folder / "config.json", text_config={"num_hidden_layers": 1})


def narrower(folder):
    change_weights(folder, lambda w: w | {"text_projection.weight": w["text_projection.weight"][:16].clone()})


def tied(folder):
    change_weights(folder, lambda w: {name: weight for name, weight in w.items() if ".layers.1.mlp." not in name})


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def empty_file(folder):
    (folder / "model.safetensors").write_bytes(b"")


def shard_missing(folder):
    model = CLIPModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    (folder / "model-00002-of-00003.safetensors").unlink()


def damaged_index(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": ')


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def open_clip(folder):
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    (folder / "config.json").rename(folder / "open_clip_config.json")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def no_config(folder):
    (folder / "config.json").unlink()


def damaged_config(folder):
    (folder / "config.json").write_text('{"model_type": ')


def siglip(folder):
    text, vision = TINY_CLIP["text_config"], TINY_CLIP["vision_config"]
    config = SiglipConfig(text_config=text | {"bos_token_id": 1, "eos_token_id": 2}, vision_config=vision)
    SiglipModel(config).save_pretrained(folder)


def vision_only(folder):
    config = CLIPVisionConfig(**TINY_CLIP["vision_config"], projection_dim=32)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)


NOT_WHOLE = {
    other_names: r"weights of CLIPModel .* missing \(first logit_scale\), \d+ unexpected \(first module.logit_scale\)",
    no_projection: r"2 missing \(first text_projection.weight\)",
    image_tower_alone: r"missing \(first logit_scale\)",
    deeper: r"16 missing \(first vision_model.encoder.layers.1",
    shallower: r"16 unexpected \(first text_model.encoder.layers.1",
    narrower: r"1 of another shape \(first text_projection.weight\)",
    tied: r"4 missing \(first text_model.encoder.layers.1.mlp",
    cut: "cannot be loaded .*; copy or download it again",
    empty_file: "cannot be loaded .*; copy or download it again",
    shard_missing: r"lacks 1 of \d files of weights \(first model-00002-of-00003.safetensors\)",
    damaged_index: "damaged model.safetensors.index.json; copy",
    pickled: r"weights in .bin files alone, .*save_pretrained",
    open_clip: "a model of OpenCLIP; take it in transformers' format",
    no_weights: r"holds no weights \(model.safetensors\)",
    no_config: "holds no config.json",
    damaged_config: "config.json .*cannot be read",
    siglip: "must hold a CLIP .* got a siglip",
    vision_only: "must hold a CLIP with a text and an image tower .* got a clip_vision_model",
}


@pytest.mark.parametrize("fault", NOT_WHOLE, ids=lambda fault: fault.__name__)
def test_a_clip_that_is_not_whole_is_refused_on_every_path_in_one_sentence(folder, fault, capfd):
    fault(folder)
    paths = [
        lambda: load_backbone(folder, "frozen", None),
        lambda: load_backbone(str(folder), "finetuned", None),
        lambda: GLSCL.from_clip(folder, temporal_layers=1, decoder_heads=4),
        lambda: Retriever.from_clip(folder, frames=2, words=WORDS),
        lambda: Retriever.open(folder, frames=2, words=WORDS),
    ]
    capfd.readouterr()
    for load in paths:
        with pytest.raises(ValueError, match=NOT_WHOLE[fault]) as raised:
            load()
        assert str(folder) in str(raised.value)
        assert "\n" not in str(raised.value)
    assert "MISSING" not in capfd.readouterr().err


def test_the_same_clip_loads_on_every_path(folder):
    wanted = CLIPModel.from_pretrained(folder).state_dict()
    for clip in (
        load_clip(folder),
        load_backbone(folder, "frozen", Processor.from_pretrained(folder, WORDS)),
        GLSCL.from_clip(str(folder), temporal_layers=1, decoder_heads=4).clip,
        Retriever.open(folder, frames=2, words=WORDS).model.clip,
    ):
        found = clip.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name].cpu(), weight) for name, weight in wanted.items())


def test_shards_positions_of_old_versions_and_weights_without_metadata_load(folder):
    wanted = load_clip(folder)
    weights = load_file(folder / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(12)[None]  # as saved before transformers 4.31
    weights["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(weights, folder / "model.safetensors")
    again = load_clip(folder)
    (folder / "model.safetensors").unlink()
    wanted.save_pretrained(folder, max_shard_size="100KB")
    assert not (folder / "model.safetensors").exists()
    for found in (again, load_clip(folder)):
        assert all(torch.equal(found.state_dict()[name], weight) for name, weight in wanted.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_clip_in_half_precision_works_in_single(tokenizer, tmp_path, dtype):
    half = make_clip(tmp_path, tokenizer, dtype)
    given = [(load_clip(tmp_path), half)]
    for source in (tmp_path, half):  # a folder, and a model in memory
        model = GLSCL.from_clip(source, temporal_layers=1, decoder_heads=4, frames=2, words=WORDS)
        given.append((model.clip, half))
        model.save_pretrained(tmp_path / "glscl")
        again = GLSCL.from_pretrained(tmp_path / "glscl")
        given += [(again.clip, half), (again.head, model.head)]
        ids, mask = Processor.from_pretrained(tmp_path, WORDS).tokenise(["a red circle"])
        texts = again.encode_texts(ids, mask)
        videos = again.encode_videos(torch.ones(1, 2, 3, 16, 16), torch.ones(1, 2, dtype=torch.long))
        assert again.similarity(texts, videos).isfinite().all()
    for found, wanted in given:
        for name, weight in found.state_dict().items():
            assert weight.dtype == torch.float32, name
            assert torch.equal(weight, wanted.state_dict()[name].float()), name


def test_a_trained_model_saved_in_half_precision_works_in_single(make_model, tmp_path):
    model = make_model()
    model.half().save_pretrained(tmp_path)
    found = METHODS["glscl"].from_pretrained(tmp_path)
    assert {weight.dtype for weight in found.state_dict().values()} == {torch.float32}
    found.encode_texts(torch.tensor([[48, 7, 49]]), torch.ones(1, 3, dtype=torch.long))


@pytest.mark.parametrize("fault", [cut, pickled, no_weights, damaged_config])
def test_a_trained_model_that_is_not_whole_is_refused(whole, tmp_path, fault):
    GLSCL.from_clip(whole, temporal_layers=1, decoder_heads=4, words=WORDS).save_pretrained(tmp_path)
    Processor.from_pretrained(whole, WORDS).save_pretrained(tmp_path)
    fault(tmp_path)
    for load in (load_run, Retriever.from_pretrained, Retriever.open):
        with pytest.raises(ValueError, match=NOT_WHOLE[fault]):
            load(tmp_path)


def test_a_clip_is_no_trained_model(whole):
    for load in (load_run, Retriever.from_pretrained):
        with pytest.raises(ValueError, match=r"must hold one of cross_encoder, .*, got a clip; train one"):
            load(whole)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_clip_keeps_its_own_activation(tokenizer, tmp_path, activation):
    own = {"hidden_act": activation}
    clip = make_clip(tmp_path, tokenizer, text_config=own, vision_config=own).eval()
    model = GLSCL.from_clip(tmp_path, temporal_layers=1, decoder_heads=4)
    ids, mask = Processor.from_pretrained(tmp_path, WORDS).tokenise(["a red circle", "it stops"])
    expected = clip.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    torch.testing.assert_close(model.text_features(ids, mask)[0], expected)
    frames = torch.randn(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = clip.get_image_features(pixel_values=frames[0]).pooler_output
    torch.testing.assert_close(model.frame_features(frames, torch.ones(1, 3))[0], expected)
    block = model.head.temporal.blocks.layers[0]
    assert block.mlp.config.hidden_act == activation


def test_a_clip_whose_projection_is_wider_than_its_text_tower_needs_no_temporal_encoder(tokenizer, tmp_path):
    make_clip(tmp_path, tokenizer, projection_dim=48)
    with pytest.raises(ValueError, match=r"width of its projection, 48, got 32; set temporal_layers to 0"):
        GLSCL.from_clip(tmp_path, temporal_layers=1, decoder_heads=4)
    assert GLSCL.from_clip(tmp_path, temporal_layers=0, decoder_heads=4).config.width == 48
    assert Retriever.open(tmp_path, frames=2, words=WORDS).model.config.width == 48


# --- names


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty local cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def use_hub(monkeypatch, port):
    """Let huggingface_hub ask this port of this machine, as with HF_ENDPOINT at its import."""
    constants, address = huggingface_hub.constants, f"http://127.0.0.1:{port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_name_without_a_hub_fails_at_once(cache, monkeypatch):
    use_hub(monkeypatch, closed_port())
    begin = time.monotonic()
    for load in (load_clip, lambda name: Processor.from_pretrained(name, WORDS), Retriever.open, load_run):
        with pytest.raises(ValueError, match="got nobody/nothing, which is no folder and cannot be fetched") as raised:
            load("nobody/nothing")
        assert "\n" not in str(raised.value)
    assert time.monotonic() - begin < 2


def test_a_hub_that_does_not_answer_is_not_waited_for(cache, monkeypatch):
    monkeypatch.setattr(pretrained, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        use_hub(monkeypatch, silent.getsockname()[1])
        begin = time.monotonic()
        with pytest.raises(ValueError, match=r"cannot be fetched .*imeout"):
            located("nobody/nothing")
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize("path", ["no/such/folder", "/no/such/folder", "work/quick/scenes/train/glscl/seed-0"])
def test_a_folder_that_is_not_there_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"got {path}, which is no folder and no name of a hub; correct it"):
        located(path)


def test_a_name_in_the_local_cache_asks_no_hub(whole, cache, monkeypatch):
    use_hub(monkeypatch, closed_port())
    snapshot = cache / "models--somebody--clip/snapshots" / ("0" * 40)
    shutil.copytree(whole, snapshot)
    (cache / "models--somebody--clip/refs").mkdir()
    (cache / "models--somebody--clip/refs/main").write_text("0" * 40)
    assert located("somebody/clip") == str(snapshot)
    retriever = Retriever.open("somebody/clip", frames=2, words=WORDS)
    assert retriever.source == "somebody/clip"
    (snapshot / "preprocessor_config.json").unlink()
    assert load_clip("somebody/clip").config.projection_dim == 32
    with pytest.raises(ValueError, match=r"must state the size .*\(preprocessor_config.json\)"):
        Processor.from_pretrained("somebody/clip", WORDS)
    (snapshot / "model.safetensors").unlink()  # a download that was stopped
    with pytest.raises(ValueError, match="somebody/clip, which is no folder and cannot be fetched"):
        located("somebody/clip")


@contextmanager
def hub_of(folder):
    """A hub on this machine that has one model, `somebody/clip`; yields its port and the paths that were asked for."""
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            _, found, name = self.path.partition("/somebody/clip/resolve/main/")
            content = (folder / name).read_bytes() if found and (folder / name).is_file() else None
            self.send_response(404 if content is None else 200)
            if found and content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            for header, value in {"X-Repo-Commit": "0" * 40, "ETag": f'"{len(content or b"")}"'}.items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content

        def do_GET(self):
            if content := self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_name_that_a_hub_has_is_fetched_and_then_read_from_the_cache(whole, cache, monkeypatch):
    with hub_of(whole) as (port, asked):
        use_hub(monkeypatch, port)
        load_clip("somebody/clip")  # leaves weights in the cache, and no tokenizer
        found = Retriever.open("somebody/clip", frames=2, words=WORDS)
        assert found.fingerprint() == Retriever.open(whole, frames=2, words=WORDS).fingerprint()
        before = len(asked)
        assert Retriever.open("somebody/clip", frames=2, words=WORDS).fingerprint() == found.fingerprint()
        assert len(asked) == before
        with pytest.raises(ValueError, match=r"somebody/else, which is no folder and cannot be fetched .*404"):
            Retriever.open("somebody/else")
    assert model_type("somebody/clip") == "clip"
