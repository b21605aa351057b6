# Yika from a fresh clone: `make run` and `make test`. They need python3 (3.11 or later, with venv), git and
# make, and say so when one is missing. Everything is installed into .venv of this checkout.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
export PYTHON
# What is installed and started here begins faster with its bytecode files.
unexport PYTHONDONTWRITEBYTECODE

# No file is made here: each target is a thing to do.
.PHONY: help run test soak bench growth ledger check lint format types contracts spec matrix lock clean distclean sandbox dev

help: ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo
	@echo '  make run takes YIKA_PORT (8080), YIKA_DATA_DIR (.yika) and YIKA_MONGODB_URI (an embedded database).'
	@echo '  make test takes ARGS, such as ARGS="-k activation -x".'

# exec in both: the signal that make passes on reaches the program itself, and make waits for it.
# with_parent.py ends the service when make is killed in a way that it cannot pass on.
run: sandbox ## The service in sandbox on 127.0.0.1:8080, with a database of its own
	@exec $(PY) -I deploy/local/with_parent.py $(PY) -m service sandbox

test: dev ## All tests, against a real MongoDB that they start and stop
	@exec $(PY) -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: dev ## The races and stops again and again, some ten minutes
	@YIKA_SOAK_ROUNDS=50 exec $(PY) -m pytest tests/faults/test_processes.py $(ARGS)

bench: dev ## Yika against its peers, and its bars; some twenty minutes
	@sh deploy/local/bench.sh $(PY)
	@exec $(PY) -m bench $(ARGS)

growth: dev ## What a million cards cost beside ten thousand; some twenty minutes
	@sh deploy/local/bench.sh $(PY)
	@exec $(PY) -m bench.growth $(ARGS)

ledger: dev ## What a million links of the ledger cost to make and to look at; some ten minutes
	@exec $(PY) -m bench.ledger $(ARGS)

check: ## All that CI checks
	@exec bash .ci/run

lint: dev ## Style and likely mistakes
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: dev ## Put the code into its form
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

types: dev ## Types, strictly
	@$(PY) -m mypy

contracts: dev ## Who may import whom
	@$(PY) .venv/bin/lint-imports --no-logo

spec: dev ## The OpenAPI document against its own rules
	@$(PY) -m service openapi --check

matrix: dev ## docs/transitions.md anew, from the table of transitions and the packs
	@$(PY) -m service policy matrix service/regions > docs/transitions.md

lock: ## The lock files anew from pyproject.toml; UPGRADE=1 takes the newest versions
	@sh deploy/local/lock.sh $(if $(UPGRADE),--upgrade)

clean: ## Remove what tools left behind
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## The same, and the environment and the sandbox's data
	@rm -rf .venv .venv.lock .yika .bench bench/peers/fastify/node_modules

sandbox dev:
	@sh deploy/local/ready.sh $@
