# Two commands: `make demo` runs the whole study at laptop scale, `make test` passes the tests.
# Choose where PyTorch comes from with TORCH_INDEX=URL (a CPU build is a tenth of the download).
PYTHON ?= python3
TORCH_INDEX ?=
VENV ?= .venv
BIN := $(VENV)/bin
# on one thread each, three for two cores, since a tenth of their time they wait; pytest-benchmark warns of xdist unless
# it is told that nothing is timed
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --benchmark-disable
SET_UP := $(PYTHON) scripts/set_up.py --venv $(VENV) --torch-index "$(TORCH_INDEX)"
INPUTS := pyproject.toml constraints.txt scripts/set_up.py
# even where the environment forbids it: hundreds of processes under test would each compile what they import
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo picture test test-slow test-slurm test-gpu bench lint format clean help

demo: $(VENV)/.installed-run  ## set up, run the ladder at laptop scale, print the report's path
	$(BIN)/harness ablate fig3

picture: $(VENV)/.installed-run  ## README's picture, of the demo's records; needs Chromium
	$(BIN)/harness report fig3
	$(BIN)/python scripts/picture.py runs/fig3/report.html reports/pictures/fig3_laptop.png

test: $(VENV)/.installed-test  ## set up, run the default tests
	$(TESTS) -n 3 -m "not slow and not browser and not slurm and not gpu and not benchmark"

test-slow: $(VENV)/.installed-test  ## long tests and those that need Chromium; what needs gigabytes one at a time
	$(TESTS) -n 3 --dist loadgroup --timeout 1200 -m "(slow or browser) and not slurm and not gpu and not benchmark"

test-slurm: $(VENV)/.installed-test  ## tests on a real one-node Slurm, which they start; skipped without root or its packages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/slurm -m "slurm and not gpu" -rs

test-gpu: $(VENV)/.installed-test  ## tests that need CUDA, then what a training step takes there: minutes
	$(BIN)/python -m pytest tests/gpu -m gpu -s -rs

bench: $(VENV)/.installed-test  ## time against peers, in interleaved runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks -m benchmark -s

lint: $(VENV)/.installed-lint  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.installed-lint  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed-run: $(INPUTS)
	$(SET_UP)

$(VENV)/.installed-test: $(INPUTS)
	$(SET_UP) --extra test

$(VENV)/.installed-lint: $(INPUTS)
	$(SET_UP) --extra test --extra lint

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks *.egg-info

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
