"""Nothing needs a network but a model that is named by its name on a hub: tried where there is none."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from glscl.study.parameters import load_params
from tests import ROOT

ALONE = ["unshare", "--map-root-user", "--net"]  # a network namespace without interfaces
# The kernel of a notebook talks over loopback, which such a namespace has switched off.
RUN = """
import fcntl, pkgutil, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)  # an address for documentation
except OSError as error:
    assert error.errno == 101, error  # the network is unreachable
else:
    raise AssertionError("there is a network")
import glscl
for module in pkgutil.walk_packages(glscl.__path__, "glscl."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
from glscl import cli
from glscl.study import stage
assert cli.main(["index", "videos", "--index", "index", "--model", "data/tiny-clip"]) == 0
assert cli.main(["search", "index", "a red circle", "--json"]) == 0
sections = "datasets.facets.corpus,datasets.facets.inputs"
sys.exit(stage.main(["notebooks/01_features.ipynb", "dataset=facets", "--sections", sections]))
"""


def allowed() -> bool:
    """Whether this user may make such a namespace."""
    return shutil.which("unshare") is not None and subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not allowed(), reason="this user may not make a network namespace, so nothing is tried without one")
def test_modules_search_and_a_stage_run_without_a_network(bundled, tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    params = load_params(ROOT)
    params["datasets"]["facets"]["corpus"] |= {"train": 24, "val": 8, "test": 8, "captions": 1, "width": 64}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "data").symlink_to(bundled)
    (tmp_path / "videos").mkdir()
    for video in sorted((bundled / "scenes/videos").iterdir())[:2]:
        shutil.copy(video, tmp_path / "videos")
    said = subprocess.run([*ALONE, sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[-2000:]
    assert json.loads((tmp_path / "results/corpora/facets/data.json").read_text())["splits"]["test"]["videos"] == 8
    assert ".mp4" in said.stdout
