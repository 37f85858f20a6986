# Everything sets itself up: git, make and some python3 are enough. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
# schemathesis wants newer packages than Rasa allows, so it has an environment of its own.
VENV_FUZZ := .venv-fuzz
READY_FUZZ := $(VENV_FUZZ)/.ready
# Each has a model and a server of its own, some 1 GB; the tests of one file stay together.
PROCESSES ?= 2
export HOST PORT
# Where this is set, every start compiles all sources again and takes some eight seconds longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test test-cluster soak faults fuzz check train chat eval bench widget lighthouse screenshots lint clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(READY) ## train if needed and serve the assistant (HOST=, PORT=)
	@exec $(BIN)/assistant serve

test: $(READY_DEV) ## lint, types, content checks and all tests
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/assistant check
	@deploy/browser > /dev/null
	@$(BIN)/assistant train
	@$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: $(READY_DEV) ## the tests of the running server and of the database, on two workers
	@deploy/browser > /dev/null
	@TEST_STORE=cluster $(BIN)/pytest $(ARGS)

soak: $(READY_DEV) ## kill workers under load for ten minutes, then compare (ARGS="--minutes 1 --rate 5")
	@$(BIN)/python -m tests.soak $(ARGS)

check: $(READY_DEV) ## check all content: every problem with its file and line
	@$(BIN)/assistant check

train: $(READY) ## train a model for the present data, if there is none
	@$(BIN)/assistant train

chat: $(READY) ## talk to the assistant in the terminal
	@$(BIN)/assistant chat

eval: $(READY) ## measure understanding: DATA=file.tsv [JSON=out.json] [TYPOS=seed]
	@test -n "$(DATA)" || { echo "Say which data: make eval DATA=file.tsv [JSON=out.json]"; exit 2; }
	@$(BIN)/assistant eval "$(DATA)" $(if $(JSON),--json "$(JSON)") $(if $(TYPOS),--typos "$(TYPOS)")

bench: $(READY_DEV) ## measure speed, memory and size beside stock and rules-only Rasa (ARGS=--quick)
	@$(BIN)/python -m bench.beside_stock $(ARGS)

fuzz: $(READY_DEV) $(READY_FUZZ) ## send bad input to a server: half an hour (ARGS="--generated 2000")
	@$(BIN)/python -m tests.fuzz $(ARGS)

faults: $(READY_DEV) ## break things around a running server; writes docs/faults.md (ARGS="--only NAME")
	@$(BIN)/python -m tests.faults $(or $(ARGS),--report docs/faults.md)

widget: ## build the chat widget into the package (needs Node 18 or newer)
	@cd widget && npm install --silent --no-audit --no-fund && npm run --silent build

lighthouse: $(READY_DEV) ## measure what the widget costs a page (needs Node and `make run`; URL=)
	@cd bench/widget && npm install --silent --no-audit --no-fund && node measure.mjs $(URL)
	@$(BIN)/python -m bench.widget.interaction $(URL)

screenshots: $(READY_DEV) ## make the pictures in docs/images/
	@$(BIN)/python -m docs.images.make

lint: $(READY_DEV) ## put the code into its form and mend what can be mended
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## remove the environment, models and results (not var/, which holds conversations)
	rm -rf $(VENV) $(VENV_FUZZ) .tools models results *.egg-info .mypy_cache .pytest_cache .ruff_cache .rasa

$(READY): requirements.lock pyproject.toml
	@deploy/set-up $(VENV) requirements.lock && touch $@

# The tests' environment holds all of the other, so both are ready.
$(READY_DEV): requirements-dev.lock requirements.lock pyproject.toml
	@deploy/set-up $(VENV) requirements-dev.lock && touch $(READY) $@

$(READY_FUZZ): requirements-fuzz.lock
	@deploy/set-up $(VENV_FUZZ) requirements-fuzz.lock && touch $@
