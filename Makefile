# `make reproduce` and `make test` need Python 3.11 or newer, git and make; all else is installed into .venv.
# A CUDA GPU needs nothing more: on Linux pip's default index serves the locked torch with CUDA.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Threads that spin while they wait slow each other down where other work runs, up to ten times.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: inputs help reproduce study dag experiments verify test test-pipeline lab report report-single report-one readme lowest lock parity lint bundled-inputs bench faults gpu-check rehearse temperature hooks clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

# The scripts in .venv name the folder that it was made in, so a moved or copied one is made again.
MOVED := $(shell grep -s '^command = ' .venv/pyvenv.cfg | grep -v " $$(cd .venv 2>/dev/null && pwd -P)$$")
ifneq ($(MOVED),)
.PHONY: .venv/.installed
endif

# Every file that pip takes must have a hash of a lock. torch's CPU build, with which all results were computed, is taken
# where pip is told of a place that has it, else the build with CUDA from PyPI, which needs gigabytes more.
LOCKED := .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

.venv/.installed: requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml
	@test -z "$(MOVED)" || { echo "the environment in .venv was made in another folder and is made again"; rm .venv/bin/pip; }
	@test -x .venv/bin/pip || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		f"Python 3.11 or newer is needed, got {sys.version.split()[0]}; name one: make PYTHON=python3.11")'
	@test -x .venv/bin/pip || $(PYTHON) -m venv --clear .venv
	@echo "installing requirements.lock into .venv, some minutes"
	@$(LOCKED) -r requirements-cpu.lock 2>/dev/null || true
	@$(LOCKED) -r requirements.lock
	@! .venv/bin/python -c 'import sys; from importlib.metadata import requires; \
		sys.exit(not any(name.startswith("nvidia") for name in requires("torch") or []))' || $(LOCKED) -r requirements-cuda.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

inputs: .venv/.installed
	@test data -nt data.dvc || dvc pull --quiet --remote bundled data.dvc

reproduce: inputs  ## run the pipeline in its quick profile, 15 to 30 minutes on 2 cores, and check its results
	@python -m glscl.study.pipeline quick

study: inputs  ## run the full profile, whose results the repository holds: two hours on 2 cores, resumable
	@python -m glscl.study.pipeline full

PROFILE ?= quick
verify: .venv/.installed  ## are the results here the committed ones? PROFILE=quick or full
	@python -m glscl.study.verify $(PROFILE)

test: inputs  ## run all tests but the whole pipeline's
	@python -m pytest -n auto --maxprocesses 4 --dist loadfile

# In the order of their names, so that the longest file, test_pipeline.py, does not wait for another one.
test-pipeline: inputs  ## run every notebook on a small corpus, and open the report in a browser
	@python -m pytest -m pipeline -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder

lab: inputs  ## open the notebooks in JupyterLab
	@jupyter lab --LabApp.default_url=/lab/tree/notebooks

report: .venv/.installed  ## judge the claims and build the report again, without training: PROFILE=quick or full
	@dvc repro --force --single-item $(if $(filter quick,$(PROFILE)),ledger@quick report@quick,full_ledger@full full_report@full)

report-single: .venv/.installed  ## share one page: make report-single NOTEBOOK=work/notebooks/quick/X.ipynb
	@test -n "$(NOTEBOOK)" || { echo "name a notebook: make report-single NOTEBOOK=work/notebooks/quick/X.ipynb"; exit 2; }
	@python -m glscl.report.export single "$(NOTEBOOK)" "build/$(basename $(notdir $(NOTEBOOK))).html"

report-one: .venv/.installed  ## share the whole report as one file: PROFILE=quick or full
	@python -m glscl.report.export one reports/$(PROFILE) build/report-$(PROFILE).html

readme: .venv/.installed  ## write README.md's results and docs/results.md anew from the full results
	@python -m glscl.study.documents

# Torch stays the locked one, as another one takes gigabytes; what it needs of CUDA is left out with it.
LOWEST := build/lowest
TESTS ?= tests --ignore=tests/test_house.py -m "not slow and not pipeline"
lowest: inputs  ## run the fast tests with the lowest versions that pyproject.toml allows, or TESTS="some of them"
	@uv venv --quiet --clear --python .venv/bin/python $(LOWEST)
	@python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo $(LOWEST)/lib/python*/site-packages)/shared.pth
	@uv pip compile --quiet --resolution lowest-direct --extra dev --python $(LOWEST)/bin/python --no-emit-package torch \
		--no-header --no-annotate pyproject.toml | grep -v '^nvidia-\|^cuda-\|^triton=' > $(LOWEST)/all.txt
	@uv pip freeze --quiet --python .venv/bin/python | grep -vxFf - $(LOWEST)/all.txt > $(LOWEST)/differ.txt
	@uv pip install --quiet --no-deps --python $(LOWEST)/bin/python -r $(LOWEST)/differ.txt
	@$(LOWEST)/bin/python -m pytest -q -p no:cacheprovider $(TESTS)

# Hashes are those of all files of a release on PyPI, for every system. requirements-cpu.lock is written by hand.
lock: .venv/.installed  ## pin anew what pyproject.toml asks for, with hashes; pins that still fit stay, or UPGRADE=--upgrade
	@mkdir -p build
	@cat requirements.lock requirements-cuda.lock > build/all.lock
	@echo setuptools | UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --python-version 3.11.5 \
		--generate-hashes --no-annotate --extra dev $(UPGRADE) --output-file build/all.lock pyproject.toml -
	@awk 'BEGIN {print "# What torch with CUDA needs besides requirements.lock, by the same `make lock`." > "build/cuda.lock"} \
		/^[a-z]/ {cuda = /^(nvidia-|cuda-|triton=)/} {print > (cuda ? "build/cuda.lock" : "build/rest.lock")}' build/all.lock
	@mv build/cuda.lock requirements-cuda.lock && mv build/rest.lock requirements.lock

dag: .venv/.installed  ## draw docs/pipeline.svg anew: the graph of dvc.yaml, one box per kind of stage
	@python -m glscl.study.dag

experiments: .venv/.installed  ## list what dvc exp run tried: the parameters that differ, and the numbers of each profile
	@dvc exp show --only-changed --drop '^(work|results/[^s]|glscl|notebooks|params.yaml)'

parity: .venv/.installed  ## write docs/parity.md anew: how far every head is from the code of its release
	@python -m tests.released

lint: .venv/.installed  ## check style
	@ruff check
	@ruff format --check

bundled-inputs: .venv/.installed  ## draw the bundled clips and train the tiny CLIP again, some 15 minutes
	@python -m glscl.bundled
	@python -m benchmarks.headroom
	@echo "now record them: dvc add data && dvc push data.dvc"

bench: .venv/.installed  ## measure the speed targets of benchmarks/bench.py, some minutes; fails where one is missed
	@python -m benchmarks.bench

faults: inputs  ## kill, damage and race a small pipeline at random moments, at most 20 minutes; fails where a result is lost
	@python -m benchmarks.faults

gpu-check: .venv/.installed  ## parity, speed and memory of this machine's GPU, some 6 minutes; in seconds without one
	@python -m benchmarks.gpu_check

rehearse: .venv/.installed  ## what a benchmark will take on this machine: make rehearse DATASET=msrvtt, some minutes
	@test -n "$(DATASET)" || { echo "name a benchmark: make rehearse DATASET=msrvtt"; exit 2; }
	@python -m benchmarks.rehearsal "$(DATASET)"

temperature: .venv/.installed  ## choose the temperature of the frame softmax on validation, some 6 minutes
	@python -m benchmarks.temperature

hooks: .venv/.installed  ## check each commit with pre-commit
	@pre-commit install

clean:  ## remove work/, build/ and reports/, so that the next run starts anew; data and results stay
	@git clean -fdXq -- work reports build
