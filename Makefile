# Needs python3 (3.11 or later) and make, and a C compiler for the compiled form; everything else goes into .venv here.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export RAY_USAGE_STATS_ENABLED := 0
# Where byte code may not be kept, each of the hundreds of processes that the tests start compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE

# What each target selects; "-n auto": a worker for each core; loadgroup: all tests of a scenario on one of them.
SIM    := not live and not long
QUICK  := $(SIM) and not wide
LIVE   := live and not long
SPREAD := -n auto --dist loadgroup
MODULES := tests/shared tests/nodes tests/cluster
ENGINE := tests/shared/test_p*.py tests/shared/test_struct.py tests/shared/test_locks.py tests/shared/test_race.py \
	tests/shared/test_km.py tests/shared/test_amap_pp.py tests/nodes/test_nodes.py tests/nodes/test_mmu.py \
	tests/nodes/test_cpu.py tests/cluster/test_sim.py tests/cluster/test_api.py tests/parity/test_digests.py

# The form of the engine and the kernel (shared/form.py): plain, or compiled; empty: compiled where that can be built.
FORM ?= $(UVMP_FORM)
PYTEST := $(BIN)/python -m pytest -q
BUILD := UVMP_FORM=plain $(BIN)/python -m cluster.compiled

.PHONY: help setup compiled built quick test check long bench rediscovery tokens medians digests big-lock exhausted mutants demo clean

help:
	@echo "make demo    see a race found, replayed and explained"
	@echo "make quick   the checks, and the tests of modules: no real processes, no random programs, no scenario sweeps"
	@echo "make test    ruff, mypy, lint-imports, pytest: what CI runs"
	@echo "make check   the same without pytest"
	@echo "make long    the tests that are too slow for 'make test'"
	@echo "make bench   measure"
	@echo "make rediscovery  fuzz with each erratum until it is found, two minutes each at most; continues where it ended"
	@echo "make tokens  after a change of the kernel: find the shipped schedules again"
	@echo "make medians  after a change of the search: measure how soon each strategy finds each defect; takes two minutes"
	@echo "make digests  after a change of what journals say: write their digests anew"
	@echo "make big-lock  after a change of the kernel: search every scenario again with the big lock"
	@echo "make exhausted  after a change of the kernel: exhaust every scenario again, as far as that goes"
	@echo "make mutants  [MODULE=cluster/runs/token.py] change a module in one place at a time: do its tests notice?"
	@echo "make setup   build .venv (the others do that by themselves) and the compiled form; says how to call uvmp"
	@echo "make compiled  compile the engine and the kernel again, after a change: four times as fast as plain Python"
	@echo "make ... FORM=plain  do not compile, and test plain Python"
	@echo "make clean   remove .venv, caches and builds; runs/ stays"

setup: built
	@echo "uvmp is $(BIN)/uvmp in this folder; to call it uvmp, as the README does: . $(BIN)/activate"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "uvmp needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "== set-up: installing uvmp and its tools into $(VENV) (a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --editable '.[dev]'
	@touch $@

# Where there is no C compiler, or the build fails, this says so, and uvmp runs as plain Python.
built: $(STAMP)
	@test "$(FORM)" = plain || $(BUILD) --if-possible

# A minute and a half of CPU time. After a change of a source that it was made of, uvmp runs as plain Python again.
compiled: $(STAMP)
	@$(BUILD)
	@echo "== pytest, the journals of every scenario, in the compiled form"
	@UVMP_FORM=compiled $(PYTEST) $(SPREAD) tests/parity/test_digests.py

check: $(STAMP)
	@echo "== ruff"
	@$(BIN)/ruff check .
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== lint-imports"
	@out=$$($(BIN)/lint-imports 2>&1) || { echo "$$out"; exit 1; }

quick: check
	@echo "== pytest, the tests of modules, in sim"
	@UVMP_FORM=$(FORM) $(PYTEST) $(SPREAD) -m "$(QUICK)" $(MODULES)

# The whole suite in the compiled form, and in plain Python the main tests of what is compiled and the journals of every
# scenario; or, where nothing can be compiled, the whole suite in plain Python. The checks need one core, and so does
# mypyc, with which a build begins.
test: $(STAMP)
	@$(MAKE) --no-print-directory -j 2 check built
	@form=$$(UVMP_FORM=$(FORM) $(BIN)/python -c 'import shared; print(shared.FORM.name)') \
	&& echo "== pytest, in sim, $$form" \
	&& UVMP_FORM=$$form $(PYTEST) $(SPREAD) -m "$(SIM)" \
	&& if test $$form = compiled; then \
	    echo "== pytest, the main tests of what is compiled and the journals, plain" \
	    && UVMP_FORM=plain $(PYTEST) $(SPREAD) -m "$(QUICK)" $(ENGINE); fi \
	&& echo "== pytest, on real processes, $$form" \
	&& UVMP_FORM=$$form $(PYTEST) -m "$(LIVE)" $$(grep -rl 'mark\.live' --include='test_*.py' tests)

long: $(STAMP)
	@echo "== pytest, the long tests"
	@UVMP_FORM=$(FORM) $(PYTEST) -m long

bench: $(STAMP)
	@$(BIN)/python -m tests.bench
	@$(BIN)/python -m tests.bench.compare --best

rediscovery: $(STAMP)
	@UVMP_FORM=$(FORM) $(BIN)/python -m tests.bench.rediscovery

tokens: $(STAMP)
	@$(BIN)/python -m tests.scenarios.tokens

medians: $(STAMP)
	@$(BIN)/python -m tests.scenarios.medians

digests: $(STAMP)
	@$(BIN)/python -m tests.parity.digests

big-lock: $(STAMP)
	@$(BIN)/python -m tests.scenarios.big_lock

exhausted: $(STAMP)
	@nice $(BIN)/python -m tests.scenarios.exhausted

# mutmut is no dependency of `make setup`: whoever never mutates does not wait for it.
mutants: $(STAMP)
	@$(BIN)/python -m pip install -qq 'mutmut>=3.8,<4'
	@$(BIN)/python -m tests.mutants $(MODULE)

demo: $(STAMP)
	@$(BIN)/python -m cluster.cli.demo

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find cluster nodes shared tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
