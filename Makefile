# Every target makes its own .venv: with uv where it is found, with venv and pip where not; both install what uv.lock says.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-slow check bench bench-features bench-batch bench-quality bench-models bench-rivals bench-families bench-nps bench-truth bench-serve bench-spark docs notebooks models clean

PYTHON ?= python3
comma := ,
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
BIN := .venv/bin
# One worker a core, at most eight, one file a worker; compute threads on top of that would only wait for each other.
PYTEST := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

export UV_PROJECT_ENVIRONMENT := .venv
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What pip needs to know of the lock: a line for each version, with the interpreters and systems it is for.
define LOCKED
import tomllib
for package in tomllib.load(open("uv.lock", "rb"))["package"]:
    if "registry" in package["source"]:
        markers = " or ".join(f"({marker})" for marker in package.get("resolution-markers", ()))
        print(f"{package['name']}=={package['version']}" + (f" ; {markers}" if markers else ""))
endef
export LOCKED

# $(call install,EXTRAS AS UV TAKES THEM,EXTRAS AS PIP TAKES THEM)
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cxml needs Python 3.11 or newer, and '$(PYTHON)' is not. Install one, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(if $(UV),\
	{ test -x $(BIN)/python || uv venv --allow-existing --python "$$(command -v $(PYTHON))" .venv; } && \
	uv sync --quiet --frozen --inexact --compile-bytecode $(1),\
	{ test -x $(BIN)/python || $(PYTHON) -m venv .venv; } && \
	{ $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; } && \
	$(BIN)/python -c "$$LOCKED" > .venv/constraints.txt && \
	$(BIN)/python -m pip install --quiet --constraint .venv/constraints.txt --editable '.$(2)')
	@touch $@
endef

.venv/.base: pyproject.toml uv.lock
	$(call install,,)

.venv/.dev: pyproject.toml uv.lock
	$(call install,--all-extras,[all$(comma)bench$(comma)dev])

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: .venv/.base ## Simulate journeys, train, track, score, and say what was found; all in out/demo
	$(BIN)/cxml demo --out out/demo

test: .venv/.dev ## Run the tests, but for the slow ones; CXML_REQUIRE_ALL=1 allows no skip
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: .venv/.dev ## Run the slow tests
	$(PYTEST) -m slow $(ARGS)

check: .venv/.dev ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: bench-features bench-quality ## Measure everything anew

bench-features: .venv/.dev ## Measure the speed of features beside DuckDB and Polars
	$(BIN)/python benchmarks/features.py $(ARGS)

bench-batch: .venv/.dev ## Measure the nightly batch beside its features, and beside pandas with LightGBM
	$(BIN)/python benchmarks/batch.py $(ARGS)

bench-rivals: .venv/.dev ## Measure features beside Featuretools, getML and tsfresh, each in an environment of its own
	$(BIN)/python benchmarks/rivals.py $(ARGS)

bench-families: .venv/.dev ## Measure what each family of features adds, on the real data sets (CXML_DATA)
	$(BIN)/python benchmarks/families.py $(ARGS)

bench-quality: .venv/.dev bench-models ## Measure the models beside other learners and simple rules on the real data sets (CXML_DATA)
	$(BIN)/python benchmarks/quality.py $(ARGS)

bench-models: .venv/.dev ## Measure the models beside LightGBM, CatBoost, scikit-learn and FLAML on the same rows (CXML_DATA)
	$(BIN)/python benchmarks/rivals_quality.py --out docs/rivals.md $(ARGS)

bench-truth: .venv/.dev ## Measure churn probabilities against the simulator's truth
	$(BIN)/python benchmarks/churn_truth.py $(ARGS)

bench-nps: .venv/.dev ## Measure expected NPS against the simulator's truth, world by world
	$(BIN)/python benchmarks/nps_truth.py $(ARGS)

bench-serve: .venv/.dev ## Measure scoring one journey: in the process, kept warm, by MLflow's pyfunc and over HTTP
	$(BIN)/python benchmarks/serve.py $(ARGS)

bench-spark: .venv/.dev ## Measure scoring on Spark beside one machine
	$(BIN)/python benchmarks/spark.py $(ARGS)

docs: .venv/.dev ## Write the reference of the commands and of the project file to out/docs
	mkdir -p out/docs
	$(BIN)/python -m typer cxml.cli utils docs --name cxml --output out/docs/commands.md
	$(BIN)/cxml schema --out out/docs/project.schema.json

notebooks: .venv/.dev ## Execute the notebooks in place
	$(BIN)/jupyter-execute --inplace notebooks/*.ipynb

models: .venv/.base ## Rebuild the models that are shipped, to the same bytes
	$(BIN)/cxml simulate --out out/models/telecom_demo --customers 2000 --seed 0
	$(BIN)/cxml train out/models/telecom_demo/project.yaml --out models/telecom_demo --no-track

clean: ## Remove .venv, out/ and every cache
	rm -rf .venv out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
