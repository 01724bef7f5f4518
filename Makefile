# The README's two commands: `make demo` and `make test`. They need Python 3.11 or 3.12, make and the package index.

VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# The system's own before one of pyenv or the like, which mostly is built without optimisation: a tenth slower.
PYTHON ?= $(shell for p in /usr/bin/python3 python3 python3.12 python3.11; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; exit; }; done)
SEED ?= 0
DEMO_RUN ?= runs/demo-seed$(SEED)
PYTEST_ARGS ?=
# Two more than two cores: a process that waits for a disk or a child leaves its core to another.
JOBS ?= 4
# Tests start a hundred processes, each of which would compile tfvc anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint clean
.NOTPARALLEL:

demo: $(VENV)/.ready
	$(VENV)/bin/python -m tfvc.train --model=attention_boosted --backbone=vgg19 --seed=$(SEED) --workdir=$(DEMO_RUN)
	$(VENV)/bin/python -m tfvc.export --workdir=$(DEMO_RUN)

test: $(VENV)/.ready-tests
	$(VENV)/bin/python -m pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.ready-tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The demo needs half of what the tests do. EXTRAS=... is installed instead, for either.
$(VENV)/.ready: EXTRAS ?= io
$(VENV)/.ready-tests: EXTRAS ?= dev,io,beam,demo

# Made under its own mark: an interrupted install is started again, not taken for whole.
$(VENV)/.ready $(VENV)/.ready-tests: setup.py $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 with venv found (Debian: apt install python3-venv); name one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	@touch $(VENV)/.ready $@

clean:
	rm -rf $(VENV) build *.egg-info
