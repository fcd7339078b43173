# `make` alone lists the targets. In another folder: make -C <this folder>.

PYTHON ?= python3
BIN := .venv/bin
COVERAGE := $(BIN)/coverage run

SPECIFICATION := build/site/index.html
CHROMIUM = chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
	--disable-component-update --disable-sync --hide-scrollbars

.PHONY: help run test check style types live features words spec site fuzz soak elections interop planted judged mutants unit reference clients bench image release upgrade version pins clean docs/specification.png docs/demo.png

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: .venv/installed ## set up, then start a stand-in C42 and the proxy, and print requests to try
	@$(BIN)/c42-proxy demo

test: check live unit ## set up, then check and run everything
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

check: .venv/installed-dev ## format, lint, types, import contract and features, in under a minute
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory --jobs 2 --output-sync style types check-flask check-asgi

style:
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-cache
	$(BIN)/behave --dry-run --format steps.usage --no-summary | (! grep -E 'UN(USED|DEFINED) STEP')

types:
	$(BIN)/mypy
	$(BIN)/mypy --scripts-are-modules scripts/stack

check-%:
	$(COVERAGE) -m behave --format failures --tags 'not @slow' -D driver=$*

live: .venv/installed-dev ## the features against gunicorn's workers, with each store
	@$(MAKE) --no-print-directory --jobs 2 --output-sync live-memory live-sqlite live-redis

live-%:
	$(BIN)/python -m behave --format failures -D driver=live -D store=$*

unit: .venv/installed-dev ## the unit tests, in a random order; SEED=... repeats one, TESTS=... names some
	$(COVERAGE) -m harness.runner $(if $(SEED),--seed $(SEED)) $(or $(TESTS),--jobs 2)

features: .venv/installed-dev ## print and run the specification, scenario by scenario
	$(BIN)/behave

words: .venv/installed-dev ## the sentences that scenarios can be made of, and the words that fit into them
	@$(BIN)/behave --dry-run --format steps.catalog --no-summary | grep -E '^(Given|When|Then) '
	@echo
	@$(BIN)/python -m features.support.parameters

spec: .venv/installed-dev ## write the specification as a page for the product owner; SINCE=68b5a57: with what has changed since that commit
	@rm -f $(SPECIFICATION)
	@$(BIN)/python -m behave --format page --outfile $(SPECIFICATION) $(addprefix -D since=,$(SINCE)) $(addprefix -D reference=,$(REFERENCE)); status=$$?; \
		test ! -f $(SPECIFICATION) || echo 'The page: file://$(CURDIR)/$(SPECIFICATION)'; exit $$status

site: reference ## the specification (SINCE=...) and the reference as pages that a host can publish as they are: build/site
	@$(MAKE) --no-print-directory spec REFERENCE=api.html

docs/specification.png: spec # the picture in the README (chromium, fonts-noto-core)
	@profile=$$(mktemp -d) && $(CHROMIUM) --user-data-dir=$$profile --window-size=1200,1000 --screenshot=$@ \
		file://$(CURDIR)/$(SPECIFICATION); status=$$?; rm -rf $$profile; exit $$status

docs/demo.png: .venv/installed-dev # the other picture in the README (chromium)
	@$(BIN)/python -m tests.commands.demo_picture $@

reference: .venv/installed-dev build/clients/installed ## write the reference of the address for makers of apps
	$(BIN)/python -m tools.clients

clients: .venv/installed-dev build/clients/installed ## clients that six generators make, the reference and docs/clients.md, tried against the proxy
	$(BIN)/python -m harness.runner $(addprefix tools.clients.tests.check_,generated reference examples)

fuzz: .venv/installed-dev ## ten thousand requests from openapi.yaml, and as many strange answers of C42
	C42_OPENAPI_REQUESTS=10000 $(BIN)/python -m unittest tests.web.test_openapi.ServiceTest
	C42_FUZZ_EXAMPLES=1000 $(BIN)/python -m unittest tests.upstream.test_fuzz

soak: .venv/installed-dev ## the stack with clients and faults for three minutes, and the proof that every promise was kept
	$(BIN)/python -m tools.soak $(SOAK)

elections: .venv/installed-dev ## kill the primary of Redis under load (Sentinels, a cluster), and count what that costs in calls
	timeout 120 $(BIN)/python -m harness.runner tests.stores.elections

interop: .venv/installed-interop ## put five caches in front of the proxy, and see that none gives an old answer (nginx, varnish, squid, chromium)
	$(BIN)/python -m tools.interop

planted: .venv/installed-dev ## plant faults in the proxy's calls and answers and in the steps, and see the features notice each
	$(BIN)/python -m tools.planted_faults $(PLANTED)

judged: .venv/installed-judged ## judge the proxy and others by the features: on its own, as a stack, its peers, proxies with a fault (cc, nginx, redis-server)
	$(BIN)/python -m tools.judge.check

mutants: .venv/installed-dev ## break the core in each small way, and see whether a test notices (cosmic-ray, redis-server; two hours); MUTANTS=--features asks the features alone
	nice $(BIN)/python -m tools.mutants $(MUTANTS)

bench: .venv/installed-dev ## measure, and write docs/performance.md beside version 0.1 (wrk, nginx, redis-server, two cores, the git history)
	$(BIN)/python -m tools.bench $(BENCH)

image: ## build the container image and try it
	scripts/image

release: .venv/installed-dev build/clients/installed build/tools/installed ## build what people install from the last commit, twice the same, and check it: build/release/
	scripts/release

upgrade: .venv/installed-dev ## earlier versions beside this one on one store, while clients request, forth and back (nginx, redis-server, the git history)
	timeout 300 $(BIN)/python -m harness.runner tests.upgrades

version: ## set the version in all places, and close the changelog's section: make version VERSION=1.0.0
	@test -n "$(VERSION)" || { echo 'Which version? make version VERSION=1.0.0' >&2; exit 2; }
	sed -i 's/^__version__ = .*/__version__ = "$(VERSION)"/' c42_proxy/version.py
	sed -i 's/^  version: .*/  version: $(VERSION)/' openapi.yaml
	sed -i 's/^ARG VERSION=.*/ARG VERSION=$(VERSION)/' Dockerfile
	sed -i 's/^## \[Unreleased\]$$/&\n\n## [$(VERSION)] - '"$$(date -u +%F)/" CHANGELOG.md

UV_PINS = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make pins' $(UPGRADE)

pins: .venv/bin/python ## pin what the image installs (make pins UPGRADE=--upgrade renews the pins)
	$(BIN)/python -m pip install --quiet uv
	$(UV_PINS) --extra otel --output-file deploy/requirements.txt pyproject.toml
	$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
		print(*project["build-system"]["requires"], *project["dependency-groups"]["sbom"], sep="\n")' \
		| $(UV_PINS) --output-file deploy/requirements-build.txt -
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make pins' $(UPGRADE) --output-file tools/clients/requirements.txt tools/clients/requirements.in

clean: ## remove what these targets have installed and built
	rm -rf .venv .coverage .coverage.* .mypy_cache .ruff_cache build
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...'; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/installed

.venv/installed-interop: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,interop]'
	@touch $@ .venv/installed-dev .venv/installed

.venv/installed-judged: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,judged]'
	@touch $@ .venv/installed-dev .venv/installed

# What builds a release, as in the image, and what checks it.
build/tools/installed: deploy/requirements-build.txt
	$(PYTHON) -m venv --clear build/tools
	build/tools/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement deploy/requirements-build.txt
	build/tools/bin/pip install --quiet --disable-pip-version-check build check-wheel-contents twine
	@touch $@

# The generators have an environment of their own: they shall not decide which versions the checks above run with.
build/clients/installed: $(addprefix tools/clients/,requirements.txt package.json package-lock.json)
	@mkdir -p build/clients; cp $^ build/clients
	$(PYTHON) -m venv build/clients/venv
	build/clients/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement build/clients/requirements.txt
	cd build/clients && PATH="$$PWD/venv/bin:$$PATH" npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@
