# Everything runs from two virtual environments made of the lock files: .venv to serve, .venv-dev to develop.

PYTHON ?= python3
ARGS ?=
PIP_COMPILE = .venv-dev/bin/pip-compile --quiet --generate-hashes --no-emit-index-url \
	--no-emit-find-links --strip-extras --allow-unsafe --build-deps-for=editable
CODE = $(wildcard ociappr tests conformance bench)

.DELETE_ON_ERROR:
.PHONY: serve check test conformance bench soak lock

serve: .venv/stamp
	exec .venv/bin/ociappr serve $(ARGS)

check: .venv-dev/stamp
	.venv-dev/bin/ruff format --check $(CODE)
	.venv-dev/bin/ruff check $(CODE)
	.venv-dev/bin/mypy $(CODE)
	.venv-dev/bin/python -m pytest -q -m "not slow" $(ARGS)

test: .venv-dev/stamp
	.venv-dev/bin/python -m pytest -q --cov --cov-report=term $(ARGS)

conformance: .venv-dev/stamp
	.venv-dev/bin/python conformance/tools/install.py
	.venv-dev/bin/python -m pytest -q --timeout=900 conformance $(ARGS)

bench: .venv-dev/stamp
	.venv-dev/bin/python conformance/tools/install.py registry wrk
	.venv-dev/bin/python -m bench $(ARGS)

soak: .venv-dev/stamp
	.venv-dev/bin/python -m bench.soak $(ARGS)

lock: .venv-dev/stamp
	env -u PIP_FIND_LINKS $(PIP_COMPILE) --output-file=requirements.lock pyproject.toml
	env -u PIP_FIND_LINKS $(PIP_COMPILE) --extra=dev --constraint=requirements.lock \
		--output-file=requirements-dev.lock pyproject.toml

# The stamp is younger than the lock it was made from, or the environment is made anew.
.venv/stamp: requirements.lock pyproject.toml
.venv-dev/stamp: requirements-dev.lock pyproject.toml
.venv/stamp .venv-dev/stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --require-hashes --requirement $<
	$(@D)/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	touch $@
