# Every command a developer needs. Each target installs what it needs into .venv, once.

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --build-constraint constraints.txt

# The first Python 3.11 or later that is on PATH; PYTHON=... overrules it.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

# A process a core and one more; ARGS=-n0 for one alone. The tests of a module stay together, and the longest begin
# first (tests/conftest.py).
PYTEST = $(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder --durations 20

# A container image may switch compiled files off: then each program that a test starts compiles all of ours anew.
export PYTHONDONTWRITEBYTECODE :=

# Programs that were made before, packed, which tests and `make parts` take instead of making them (tools/parts.py).
export SPANLEDGER_PARTS ?= $(wildcard $(CURDIR)/../shared/parts)

SOURCES := $(wildcard processor exporters sidecar tests benchmarks tools)
INSTALLED := $(VENV)/.installed
FOR_TESTS := $(VENV)/.installed-test
FOR_CHECKS := $(VENV)/.installed-check
FOR_SITE := $(VENV)/.installed-site

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test unit watch coverage simulate torture check lint mypy pyright imports component format bench parts capture docs sources changelog site release constraints audit clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## install Spanledger into .venv

demo: $(INSTALLED) ## show the main job on recorded spans: priced, signed, grouped
	@$(BIN)/spanledger demo

test: $(FOR_TESTS) ## all tests; those against real parts where `make parts` finds them
	$(PYTEST) $(ARGS)

unit: $(FOR_TESTS) ## the tests that need no other program and try no full disk or kill
	$(PYTEST) -m "not integration" --ignore tests/faults $(ARGS)

coverage: $(FOR_TESTS) ## the branches of accounting and pricing that their tests do not take
	$(BIN)/python -m pytest -q tests/accounting tests/pricing tests/enrichment --cov-branch \
		$(addprefix --cov=spanledger_processor.,accounting pricing) --cov-report=term-missing:skip-covered $(ARGS)

SEEDS ?= 1-300
simulate: $(FOR_TESTS) ## run the whole in virtual time with faults, a run a seed: make simulate SEEDS=1-5000
	PYTHONPATH=tests/support:. $(BIN)/python -m tests.simulation $(SEEDS) $(ARGS)

ROUNDS ?= 10
torture: $(FOR_TESTS) ## break real processes under load, and write the table of docs/reliability.md: make torture ROUNDS=20
	PYTHONPATH=tests/support:. $(BIN)/python -m tests.torture $(ROUNDS) --write $(ARGS)

watch: $(FOR_TESTS) ## run the tests of what changed, each time a file is saved
	$(BIN)/python -m tools.watch

check: lint mypy pyright imports ## formatting, lint, types, import direction, dependencies; beside each other with -j

lint: $(FOR_CHECKS) ## of check: formatting and lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check

mypy: $(FOR_CHECKS) ## of check: types by mypy, strict
	$(BIN)/mypy $(SOURCES)

pyright: $(FOR_CHECKS) ## of check: types by pyright
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: $(FOR_CHECKS) ## of check: directions of imports, unused and missing dependencies
	$(BIN)/lint-imports
	$(BIN)/deptry $(wildcard processor exporters sidecar)

# pip-audit has a virtual environment of its own, and is the newest: it is no part of what is audited.
audit: $(FOR_TESTS) ## secrets in the repository, inputs that break readers (a long run), advisories for constraints.txt
	$(BIN)/python -m tools.secret_scan
	$(BIN)/python -m pytest -q -n auto --dist worksteal --hypothesis-profile audit --timeout 0 \
		tests/otlp tests/enrichment tests/signing tests/receivers/test_http_body.py $(ARGS)
	$(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet --upgrade pip-audit
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

component: ## check, test and build the Collector component (needs Go)
	cd processor/collector && test -z "$$(gofmt -l . | tee /dev/stderr)" && go vet ./... && go test -race ./...
	cd processor/collector && for target in linux/amd64 linux/arm64 windows/amd64; do \
		GOOS=$${target%/*} GOARCH=$${target#*/} CGO_ENABLED=0 go build ./... || exit 1; done

format: $(FOR_CHECKS) ## format the code and mend what lint can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(FOR_TESTS) ## measure against the real Collector; results go to benchmarks/README.md
	$(BIN)/python -m benchmarks

parts: $(FOR_TESTS) ## find or make what tests run against: Collector, Tempo, Prometheus, Helm, coding agents, libraries
	@status=0; for kind in parts libraries; do $(BIN)/python -m tools.$$kind || status=1; done; exit $$status

capture: $(FOR_TESTS) ## record a real library and what it was billed: make capture NAME=smolagents
	$(BIN)/python -m tests.capture $(NAME)

docs: $(INSTALLED) ## write docs/ from the tables in the code
	@mkdir -p docs
	$(BIN)/python -m spanledger_processor.dialects.document > docs/dialects.md
	$(BIN)/python -m spanledger_processor.config.document > docs/configuration.md
	$(BIN)/python -m spanledger_processor.telemetry.table > docs/telemetry.md
	$(BIN)/python -m spanledger_processor.server.api_document > docs/http-api.md
	$(BIN)/python -m spanledger_processor.enrichment.reference > docs/attributes.md

sources: $(INSTALLED) ## print releases newer than those that the dialects' rows were read in
	@$(BIN)/python -m tools.sources

changelog: $(INSTALLED) ## make a section of CHANGELOG.md from changelog.d: make changelog VERSION=0.2.0
	$(BIN)/python -m tools.changelog $(VERSION)

site: $(FOR_SITE) ## build the documents as a site into dist/site/VERSION; a link that leads nowhere is an error (needs npm)
	@$(BIN)/python -m tools.site

release: $(FOR_TESTS) ## version, changelog, wheel, bill of materials, licences, commit and tags: make release VERSION=0.2.0
	@$(BIN)/python -m tools.release $(VERSION)

constraints: ## choose the newest versions that the dependencies allow
	rm -rf $(VENV)-newest
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-newest/bin/python -m pip install --quiet -e . --group test --group check --group site hatchling editables
	(sed -n '/^#/p' constraints.txt; \
		$(VENV)-newest/bin/python -m pip freeze --all --exclude-editable --exclude spanledger --exclude setuptools) > constraints.new
	mv constraints.new constraints.txt
	rm -rf $(VENV)-newest

clean: ## remove .venv and what tools left behind; not the parts
	rm -rf $(VENV) .coverage .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; none found on PATH. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The version of pip that knows --group and --build-constraint; the one that a venv starts with may not.
$(VENV)/.pip: constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt $(VENV)/.pip
	$(PIP) -e .
	@touch $@

$(FOR_TESTS): $(INSTALLED)
	$(PIP) --group test
	@touch $@

$(FOR_CHECKS): $(FOR_TESTS)
	$(PIP) --group check
	@touch $@

$(FOR_SITE): $(INSTALLED)
	$(PIP) --group site
	@touch $@
