# `make run` and `make test` set themselves up; they need Python 3.11 or newer (with venv) and make, and nothing else.
PYTHON ?= python3
BIN := .venv/bin
# A Postgres of yours (a URL of its superuser) for `make run` and `make test`, in place of a private one.
ifdef POSTGRES
export POS_SYNC_POSTGRES := $(POSTGRES)
endif

# Installs the requirements of file $(1): a dot a second, and pip's own words where it fails.
define install
	@printf '%s ' "$(2)"; \
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r $(1) >.venv/pip.log 2>&1 & pip=$$!; \
	while kill -0 $$pip 2>/dev/null; do printf .; sleep 1; done; \
	wait $$pip || { echo; tail -n 20 .venv/pip.log; exit 1; }; echo
endef

.PHONY: help setup run test test-fast check bench proof package screenshots format lock clean

help:
	@echo "make run     run everything here and send a first movement (Ctrl-C stops it); POSTGRES=URL: on a server of yours"
	@echo "make test    run the tests, and say at the end what was skipped and why; ARGS are those of pytest"
	@echo "make test-fast  the tests of the pure core and of the webhook alone (under a minute)"
	@echo "make check   lint, types, imports, names, contract, migrations, packages, documents, deployment files"
	@echo "make bench   measure (45 minutes; bench/README.md)"
	@echo "make proof   kill, cut, stop, overload, fail over; nothing may be lost or doubled (half an hour)"
	@echo "make screenshots  make the pictures of the page in docs/images (needs chromium)"
	@echo "make package the wheel, the sdist, and what they run on (an SBOM in CycloneDX's form), in dist"
	@echo "make setup   build .venv (the others do it by themselves)"
	@echo "make format  format the code"
	@echo "make lock    pin the requirements again (needs uv)"
	@echo "make clean   remove .venv and the development data in .data"

setup: .venv/installed

.venv/python:
	@$(PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "This needs Python 3.11 or newer with venv. Name another one: make PYTHON=python3.12 ..."; \
	  echo "(On Debian and Ubuntu venv is a package of its own: apt-get install python3-venv)"; exit 1; }
	@echo "Making .venv (once; with what follows about a minute)"
	@rm -rf .venv && $(PYTHON) -m venv .venv && touch $@

.venv/installed: .venv/python requirements/dev.txt pyproject.toml
	$(call install,requirements/dev.txt,Installing packages)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/check-installed: .venv/installed requirements/check.txt
	$(call install,requirements/check.txt,Installing the checking tools)
	@touch $@

run: setup
	@exec $(BIN)/pos-sync dev

test: setup
	@$(BIN)/python -m pytest -n 3 -m "not slow" --hypothesis-profile=quick $(ARGS)

# What a small change breaks most often. Each of these files takes seconds.
FAST := tests/unit tests/http/test_answers.py tests/http/test_refusals.py tests/http/test_health.py

test-fast: setup
	@$(BIN)/python -m pytest -n 2 $(FAST) $(ARGS)

check: .venv/check-installed .venv/sbom-installed .venv/proof-installed .venv/browser-installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh deploy/check

.venv/bench-installed: .venv/installed requirements/bench.txt
	$(call install,requirements/bench.txt,Installing what draws the plot)
	@touch $@

bench: .venv/bench-installed
	@$(BIN)/python -m bench $(ARGS)

.venv/proof-installed: .venv/installed requirements/proof.txt
	$(call install,requirements/proof.txt,Installing Patroni)
	@touch $@
# One of them comes as its source, and is built by the setuptools that is pinned.
.venv/proof-installed: export PIP_NO_BUILD_ISOLATION := 1

proof: .venv/proof-installed
	@$(BIN)/python -m proof $(ARGS)

.venv/browser-installed: .venv/installed requirements/browser.txt
	$(call install,requirements/browser.txt,Installing what steers a browser)
	@touch $@

screenshots: .venv/browser-installed
	@POS_SYNC_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/system/test_page_browser.py -k screenshots

.venv/sbom-installed: .venv/installed requirements/sbom.txt
	$(call install,requirements/sbom.txt,Installing what lists the parts)
	@touch $@

package: .venv/sbom-installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh deploy/package dist

format: .venv/check-installed
	@$(BIN)/ruff format app bench deploy migrations proof tests
	@$(BIN)/ruff check --fix app bench deploy migrations proof tests

lock:
	@requirements/lock

clean:
	@if [ -x $(BIN)/pos-sync ] && [ -d .data ]; then $(BIN)/pos-sync dev --stop; fi
	@rm -rf .venv .data build dist *.egg-info
