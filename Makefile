# `make reproduce` and `make test` need Python 3.11 or newer, git and make; all else is installed into .venv.
# A CUDA GPU needs nothing more: on Linux pip's default index serves the locked torch with CUDA.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Threads that spin while they wait slow each other down where other work runs, up to ten times.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: inputs help reproduce thorough test lab report report-single readme lint bundled-inputs bench temperature hooks clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

.venv/.installed: requirements.lock pyproject.toml
	@test -x .venv/bin/pip || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		f"Python 3.11 or newer is needed, got {sys.version.split()[0]}; name one: make PYTHON=python3.11")'
	@test -x .venv/bin/pip || $(PYTHON) -m venv --clear .venv
	@echo "installing requirements.lock into .venv, some minutes"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

inputs: .venv/.installed
	@dvc pull --quiet data.dvc

reproduce: .venv/.installed  ## run the pipeline: the whole study, or what changed since the last run
	@dvc repro --pull
	@echo "the report: $(CURDIR)/reports/index.html"

DATASET ?= scenes
thorough: .venv/.installed  ## ask the questions again with more heads, rates and seeds, about an hour: DATASET=scenes
	@set -e; for stage in 09_losses@$(DATASET)-glscl 10_convergence@$(DATASET) 11_transfer@$(DATASET); do \
		notebook=$${stage%@*}; DVC_STAGE=$${stage#*_} python -m glscl.stage notebooks/$$notebook.ipynb \
			work/notebooks/$$notebook-$(DATASET)-thorough.ipynb dataset=$(DATASET) thorough=true; \
	done
	@echo "done: results/$(DATASET)/*-thorough.json; make report shows them"

test: inputs  ## run all tests
	@python -m pytest

lab: inputs  ## open the notebooks in JupyterLab
	@jupyter lab --LabApp.default_url=/lab/tree/notebooks

report: .venv/.installed  ## judge the claims and build reports/index.html again, without training
	@dvc repro --single-item ledger report

report-single: .venv/.installed  ## share one page: make report-single NOTEBOOK=work/notebooks/X.ipynb
	@test -n "$(NOTEBOOK)" || { echo "name a notebook: make report-single NOTEBOOK=work/notebooks/X.ipynb"; exit 2; }
	@python -m glscl.report single "$(NOTEBOOK)" "build/$(basename $(notdir $(NOTEBOOK))).html"

readme: .venv/.installed  ## write the results table of README.md anew from results/
	@python -m glscl.findings

lint: .venv/.installed  ## check style
	@ruff check
	@ruff format --check

bundled-inputs: .venv/.installed  ## draw the bundled clips and train the tiny CLIP again, some 25 minutes
	@python -m glscl.bundled
	@echo "now record them: dvc add data && dvc push data.dvc"

bench: .venv/.installed  ## measure the speed targets of docs/costs.md, some minutes; fails where one is missed
	@python -m benchmarks.bench

temperature: .venv/.installed  ## choose the temperature of the frame softmax on validation, some 6 minutes
	@python -m benchmarks.temperature

hooks: .venv/.installed  ## check each commit with pre-commit
	@pre-commit install

clean:  ## remove work/, build/ and generated reports; data, results and DVC's cache stay
	@git clean -fdXq -- work reports build
