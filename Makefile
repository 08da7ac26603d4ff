# Python 3.10 to 3.13 and make are all that has to be there; PYTHON=... chooses the interpreter.
PYTHON ?=

# TensorFlow's INFO and WARNING lines would bury the tests' own.
export TF_CPP_MIN_LOG_LEVEL ?= 2

# PYTEST_ARGS="-k baseline -x" and the like reach pytest. A file stays in one process, where its networks are traced once.
PYTEST_ARGS ?= -n 2 --dist loadfile -q

NEWEST = 3.13 3.12 3.11 3.10
OLDEST = 3.11 3.10
PEERS = 3.12 3.11 3.10
DOCS = 3.13 3.12 3.11

# $(call create_venv,<directory>,<accepted versions>,<purpose>): an environment from the first
# interpreter that runs, has an accepted version and can create environments.
define create_venv
	@for candidate in $(or $(PYTHON),$(2:%=python%) python3 python); do \
	    if "$$candidate" -c 'import sys, venv, ensurepip; \
	sys.exit("%d.%d" % sys.version_info[:2] not in "$(strip $(2))".split())' 2>/dev/null; then \
	        echo "$(strip $(1)): created with $$("$$candidate" --version) ($$candidate)"; \
	        exec "$$candidate" -m venv --clear $(1); \
	    fi; \
	done; \
	echo "$(strip $(3)) needs one of Python $(strip $(2)) with its venv module," \
	    "and found none in: $(or $(PYTHON),$(2:%=python%) python3 python)." >&2; \
	echo "Install one (on Debian and Ubuntu with its python3.X-venv package)," \
	    "or name it: make PYTHON=/path/to/python ..." >&2; \
	exit 1
endef

.PHONY: help test test-all test-oldest example examples lint coverage benchmark docs release clean

help:
	@echo "make test         lint and tests on the newest TensorFlow, in .venv"
	@echo "make example      execute example.ipynb in .venv, results in build/ (MNIST=1: with MNIST)"
	@echo "make examples     execute the notebooks of examples/, results in build/"
	@echo "make test-oldest  the tests on TensorFlow 2.12, in .venv-oldest (Python 3.10 or 3.11)"
	@echo "make test-all     also what is slow: many random networks, and the product broken on purpose"
	@echo "make lint         ruff and mypy only"
	@echo "make coverage     the tests once more, in one process, and the lines they miss"
	@echo "make benchmark    speed, memory and accuracy beside other libraries, in .venv-benchmark"
	@echo "make docs         the pages as a site in build/site, in .venv-docs (a broken link fails)"
	@echo "make release      sdist and wheel in build/dist, checked and tried in a fresh environment"
	@echo "make clean        remove everything that make created, environments included"

test: lint
	.venv/bin/python -m pytest $(PYTEST_ARGS)

test-all: lint
	EXAMPLES=25 .venv/bin/python -m pytest $(PYTEST_ARGS) -m "slow or not slow"
	.venv/bin/python tests/mutations.py

lint: .venv/installed
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy

coverage: .venv/installed
	.venv/bin/python -m coverage run -m pytest -q
	.venv/bin/python -m coverage report

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest $(PYTEST_ARGS)

example: .venv/installed
	@mkdir -p build
	PICTURES=$(CURDIR)/build .venv/bin/python .ci/execute_notebook.py example.ipynb build/example.ipynb
	@echo "The executed notebook is build/example.ipynb; its pictures:"
	@ls build/*.png

# Every notebook on its own, however old its last result is.
EXAMPLES = $(notdir $(wildcard examples/*.ipynb))

examples: $(EXAMPLES:%=build/%)

build/published.ipynb build/groups.ipynb build/paths.ipynb: build/published/installed

$(EXAMPLES:%=build/%): build/%: .venv/installed FORCE
	@mkdir -p build
	PICTURES=$(CURDIR)/build .venv/bin/python .ci/execute_notebook.py examples/$* $@

FORCE:

# Networks with their weights, and a photograph (of all but mtcnn and lz4 the files alone are used).
build/published/installed: .venv/installed Makefile
	.venv/bin/python -m pip install -q --no-deps --upgrade --target build/published \
	    mtcnn==1.0.0 lz4 scikit-image cispliceai==1.2.2 basic-pitch==0.4.0 deeplc==2.2.38
	@touch $@

benchmark: .venv-benchmark/installed build/published/installed
	.venv-benchmark/bin/python benchmarks/overhead.py
	.venv-benchmark/bin/python benchmarks/speed.py
	.venv-benchmark/bin/python benchmarks/memory.py
	.venv-benchmark/bin/python benchmarks/accuracy.py
	.venv-benchmark/bin/python benchmarks/tolerance.py
	.venv-benchmark/bin/python benchmarks/numerics.py
	.venv-benchmark/bin/python benchmarks/throughput.py
	.venv-benchmark/bin/python benchmarks/time_to_accuracy.py
	.venv-benchmark/bin/python benchmarks/published.py
	.venv-benchmark/bin/python benchmarks/groups.py
	.venv-benchmark/bin/python benchmarks/paths.py
	.venv-benchmark/bin/python benchmarks/page.py
	.venv-benchmark/bin/python benchmarks/evaluation.py
	.venv-benchmark/bin/python benchmarks/language.py
	.venv-benchmark/bin/python benchmarks/serving.py
	.venv-benchmark/bin/python benchmarks/cluster.py

docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet
	@echo "The site is build/site/index.html"

# Nothing is uploaded. The wheel is tried where the source is not: with one file, package and all, and its own TensorFlow.
release: .venv-docs/installed
	rm -rf build/dist build/release
	.venv-docs/bin/python -m build --outdir build/dist .
	.venv-docs/bin/python -m twine check --strict build/dist/*
	.venv-docs/bin/python -m venv --clear build/release
	build/release/bin/python -m pip install -q build/dist/*.whl
	cd build/release && bin/python -I ../../.ci/try_wheel.py

clean:
	rm -rf build .venv .venv-oldest .venv-benchmark .venv-docs *.egg-info
	rm -rf .hypothesis .pytest_cache .ruff_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is created once; what is in it follows pyproject.toml.
.venv/bin/python:
	$(call create_venv,.venv,$(NEWEST),This target)

.venv/installed: .venv/bin/python pyproject.toml
	@echo ".venv: installing TensorFlow and what the tests and the notebook need (some minutes)"
	.venv/bin/python -m pip install -q -e '.[dev]'
	@touch $@

.venv-oldest/bin/python:
	$(call create_venv,.venv-oldest,$(OLDEST),TensorFlow 2.12)

.venv-oldest/installed: .venv-oldest/bin/python pyproject.toml
	@echo ".venv-oldest: installing TensorFlow 2.12 and what the tests need (some minutes)"
	.venv-oldest/bin/python -m pip install -q -e '.[test]' 'tensorflow==2.12.*' 'numpy<2'
	@touch $@

.venv-benchmark/bin/python:
	$(call create_venv,.venv-benchmark,$(PEERS),The benchmark)

.venv-benchmark/installed: .venv-benchmark/bin/python pyproject.toml benchmarks/requirements.txt
	@echo ".venv-benchmark: installing the libraries to compare with (some minutes)"
	.venv-benchmark/bin/python -m pip install -q -e . -r benchmarks/requirements.txt
	@touch $@

.venv-docs/bin/python:
	$(call create_venv,.venv-docs,$(DOCS),This target)

# The extra alone: griffe reads the docstrings without importing anything, so TensorFlow is not needed.
.venv-docs/installed: .venv-docs/bin/python pyproject.toml
	@echo ".venv-docs: installing MkDocs, and what builds a wheel"
	.venv-docs/bin/python -m pip install -q $$(.venv-docs/bin/python -c "import tomllib; \
	print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	@touch $@
