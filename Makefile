# Each target installs what it needs by itself; what is there already is left alone.
.PHONY: demo test lint bench install
PYTHON = .venv/bin/python

demo: install
	$(PYTHON) -m vifibnet lab demo

test: install lint
	$(PYTHON) -m twisted.trial --jobs 3 tests.unit tests.programs
	$(PYTHON) -m twisted.trial --jobs 2 tests.integration

lint: install
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --config setup.cfg

# All of them run, one after the other, also when one misses its goal; then it fails. Each alone: make bench-load.
BENCHES = join registry_load fuzz registry_calls registry_store graph load throughput
OPTIONS_graph = --seeds 2

bench: install
	@$(MAKE) --no-print-directory --keep-going --jobs=1 $(BENCHES:%=bench-%)

bench-%: install
	$(PYTHON) -m bench.$* $(OPTIONS_$*)

install:
	@./install-dev.sh
