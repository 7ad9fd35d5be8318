# Two virtual environments, each made of its lock file: .venv to serve, .venv-dev to develop.

PYTHON ?= python3
VENV ?= .venv-dev
ARGS ?=
IN = $(VENV)/bin/
CODE = $(wildcard ociappr tests conformance bench)
# asyncio's debug mode doubles the time: the whole suite has it on, the quick round has it off
FAST_TESTS = $(IN)python -m pytest -q -m "not slow and not soak" -o asyncio_debug=false $(ARGS)
PIP_COMPILE = env -u PIP_FIND_LINKS $(IN)pip-compile --quiet --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-find-links --allow-unsafe --build-deps-for=editable
DRIVERS = postgres,redis,s3
PAIRS = sqlite+s3 postgresql+s3 redis+file etcd+s3
ANYWHERE = conformance/oci conformance/appr conformance/test_crash.py conformance/replicas
DAILY = $(wildcard conformance/clients/test_d*.py) $(patsubst %,conformance/clients/test_%.py,appr helm oras)
REQUIRE_PYTHON = import sys; sys.exit(sys.version_info < (3, 11) and "make PYTHON=...: 3.11 or newer")

.DELETE_ON_ERROR:
.PHONY: serve check fast-tests test conformance conformance-replicas conformance-all bench soak lock

serve: .venv/stamp
	exec .venv/bin/ociappr serve $(ARGS)

check: $(VENV)/stamp
	$(IN)ruff format --check $(CODE)
	$(IN)ruff check $(CODE)
	$(IN)mypy $(CODE)
	$(FAST_TESTS)

fast-tests: $(VENV)/stamp
	$(FAST_TESTS)

test: $(VENV)/stamp
	$(IN)python -m pytest -q --cov --cov-report=term $(ARGS)

conformance: $(VENV)/stamp
	$(IN)python conformance/tools/install.py
	$(IN)python -m pytest -q --timeout=900 conformance $(ARGS)

# the suites that ask for nothing but a server, on another pair of stores: conformance-on-etcd+s3
conformance-on-%: $(VENV)/stamp
	$(IN)python conformance/tools/install.py conformance nginx postgres redis-server etcd versitygw minio
	$(IN)python -m pytest -q --timeout=900 --stores=$* $(ANYWHERE) $(ARGS)

# the clients of daily use, their requests given to two replicas in turn
conformance-replicas: $(VENV)/stamp
	$(IN)python conformance/tools/install.py
	$(IN)python -m pytest -q --timeout=900 --stores=postgresql+s3 --replicas $(DAILY) $(ARGS)

conformance-all: conformance conformance-replicas $(PAIRS:%=conformance-on-%)

bench: $(VENV)/stamp
	$(IN)python conformance/tools/install.py registry wrk versitygw
	$(IN)python -m bench $(ARGS)

soak: $(VENV)/stamp
	$(IN)python conformance/tools/install.py postgres redis-server etcd versitygw
	$(IN)python -m bench.soak $(ARGS)

lock: $(VENV)/stamp
	$(PIP_COMPILE) --extra=$(DRIVERS) --output-file=requirements.lock pyproject.toml
	$(PIP_COMPILE) --extra=$(DRIVERS),dev --constraint=requirements.lock \
		--output-file=requirements-dev.lock pyproject.toml

# An environment is made anew when its lock is younger than its stamp.
.venv/stamp: requirements.lock pyproject.toml
$(VENV)/stamp: requirements-dev.lock pyproject.toml
.venv/stamp $(VENV)/stamp:
	$(PYTHON) -c '$(REQUIRE_PYTHON)'
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --no-deps --require-hashes --requirement $<
	$(@D)/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	touch $@
