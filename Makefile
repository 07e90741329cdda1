# The two commands of a newcomer are `make demo` and `make test`; both set everything up by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH ?= .venv-bench

.PHONY: demo test test-all test-crash bench-training bench-networks bench-initialisation bench-io bench-online bench-scale bench-device bench-eval bench-baselines bench-weather bench-refinement bench-recipe check docs install clean

install: $(INSTALLED)

# This pip resolves the set twice as fast as the 23 that comes with Python 3.11.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Pelagos needs Python 3.11 or newer; name one with PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV): some minutes, once."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip==26.3'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/pelagos demo $(ARGS)

# The files of tests are shared out among processes, of one thread each; ARGS='-n 0' runs them in one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 25

test: $(INSTALLED)
	$(PYTEST) -m 'not slow and not crash' $(ARGS)

# With the tests that compile networks, which take some minutes more.
test-all: $(INSTALLED)
	$(PYTEST) -m 'not crash' $(ARGS)

# Builds and runs that are killed at random moments, a hundred times.
test-crash: $(INSTALLED)
	$(BIN)/python -m pytest -m crash -s $(ARGS)

# What training costs beside the network's arithmetic, on one and two processes.
bench-training: $(INSTALLED)
	$(BIN)/python -m benchmarks.training

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site in build/site, without a network. Warnings are errors.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

# In an environment of its own, which sees the pinned packages: the peers ask for versions that they do not need.
$(BENCH)/.installed: $(INSTALLED)
	$(BIN)/python -m venv $(BENCH)
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')')" \
	  > $$($(BENCH)/bin/python -c 'import site; print(site.getsitepackages()[0])')/pelagos.pth
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  the-well==1.2.0 xbatcher==0.4.0 zarrs==0.2.3 miles-credit==2026.2.0 xskillscore==0.0.29 xhistogram==0.3.2 \
	  neuraloperator==2.0.0 tensorly==0.10.0 tensorly-torch==0.5.0 opt-einsum==3.4.0
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[bench]'
	@touch $@

# Reading, loading and writing beside a memory map, the disk and other packages; wants 2 GB of a local disk.
bench-io: $(BENCH)/.installed
	OMP_NUM_THREADS=1 $(BENCH)/bin/python -m benchmarks.io $(ARGS)

# Scoring beside xskillscore and the_well, and what an evaluation costs beside its network; wants 1 GB of a local disk.
bench-eval: $(BENCH)/.installed
	OMP_NUM_THREADS=1 $(BENCH)/bin/python -m benchmarks.evaluation $(ARGS)

# The networks' speed and memory beside those of transformers and miles-credit.
bench-networks: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks.networks $(ARGS)

# What the default network gains over Poseidon's initial weights and rules; needs the stores of `make demo`.
bench-initialisation: $(INSTALLED)
	$(BIN)/python -m benchmarks.initialisation $(ARGS)

# What training on a running simulation gains over a fixed set at equal steps and memory.
bench-online: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.online $(ARGS)

# Our FNO and U-Net beside neuraloperator's and the_well's at equal data, steps and weights; goes on where it stopped.
bench-baselines: $(BENCH)/.installed
	OMP_NUM_THREADS=1 $(BENCH)/bin/python -m benchmarks.baselines $(ARGS)

# Which choices of the training recipe pay, one change at a time over several seeds; hours, and goes on where it stopped.
bench-recipe: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.recipe $(ARGS)

# What residual scaling and location are worth at equal steps; ARGS="--wfde5 'FOLDER/*.nc' --era5 FILE"; goes on where it stopped.
bench-weather: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.weather $(ARGS)

# What refinement gains and costs by every equation, beside the plain solver.
bench-refinement: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.refinement $(ARGS)

# What grows with the number of shards: time before the first task, memory of completion, time to go on.
bench-scale: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scale $(ARGS)

# What a GPU makes of training: waits, precision, attention, memory, transfers, compilation, utilisation; ten minutes.
bench-device: $(INSTALLED)
	$(BIN)/python -m benchmarks.device $(ARGS)

clean:
	rm -rf $(VENV) $(BENCH) *.egg-info build dist .mypy_cache .ruff_cache .pytest_cache
