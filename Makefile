# Each target installs what it needs by itself; what is there already is left alone.
.PHONY: demo test lint bench install
PYTHON = .venv/bin/python

demo: install
	$(PYTHON) -m vifibnet lab demo

test: install lint
	$(PYTHON) -m twisted.trial tests

lint: install
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --config setup.cfg

bench: install
	$(PYTHON) -m bench.join
	$(PYTHON) -m bench.registry_load
	$(PYTHON) -m bench.fuzz
	$(PYTHON) -m bench.registry_calls

install:
	@./install-dev.sh
