# make demo | test | test-wheel | test-jazzy | test-newest | test-machines | check | bench | bench-solvers | docs | clean.
# The first run makes everything they need in .venv.
# PYTHON=python3.x chooses the interpreter (3.10 to 3.13), VENV and CONSTRAINTS another environment with other versions;
# pip's own settings (PIP_*, pip.conf) choose where from.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints/tested.txt
BIN := $(VENV)/bin
SYSTEM := $(VENV)/.system
ENVIRONMENT := $(VENV)/.environment
MESSAGES := $(VENV)/.messages
READY := $(VENV)/.ready
CMAKE := VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH=$(CURDIR)/$(BIN):$$PATH cmake
# benchmarks share the generators of the tests
BENCH := PYTHONPATH=test$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python
SAY = @printf '\n== %s\n'

# Two workers on two cores: one thread each. Nodes talk to this machine alone.
export OMP_NUM_THREADS ?= 1
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.DELETE_ON_ERROR:
.PHONY: all demo test test-wheel test-jazzy test-newest test-machines check bench bench-solvers docs clean

all: $(READY)

demo: $(READY)
	@$(BIN)/python -m pnp_ros.cli.main demo $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# The wheel in an environment that holds what it declares and no more: no ROS, no OpenGL, no checkout.
test-wheel: $(READY)
	@$(BIN)/python -m pytest -n 0 -m wheel test/packaging $(ARGS)

# The same tests, in environments of their own (some minutes and gigabytes each, not part of .ci/run): with the versions
# of ROS 2 Jazzy and the oldest of ours, and with the newest of everything.
test-jazzy:
	@$(MAKE) test VENV=.venv-jazzy PYTHON=python3.12 CONSTRAINTS=constraints/jazzy_tested.txt

test-newest:
	@$(MAKE) test VENV=.venv-newest PYTHON=python3.13 CONSTRAINTS=constraints/newest.txt

# The same tests on processors of other kinds, simulated: torch held to AVX2, then to SSE4.1, then with two threads.
test-machines: $(READY)
	@set -e; for machine in "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2" \
	  "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41" "OMP_NUM_THREADS=2"; do \
	  echo "== $$machine"; env $$machine $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS); done

check: $(MESSAGES)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	@set -e; for file in test/benchmark/bench_*.py; do echo "== $$file"; $(BENCH) $$file $(ARGS); done

bench-solvers: $(READY)
	@$(BENCH) test/benchmark/bench_solvers.py $(ARGS)

docs: $(MESSAGES)
	@$(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[docs]'
	@$(BIN)/python -m sphinx -q -W docs out/docs && echo out/docs/index.html

# What was trained, recorded or measured (objects/, out/) is not make's to delete.
clean:
	rm -rf .venv .venv-jazzy .venv-newest build install log out/docs

# Tested by what is needed, not by package name: a Python from elsewhere brings its own venv and headers.
$(SYSTEM):
	$(SAY) "System packages"
	@missing=; \
	command -v g++ >/dev/null || missing="$$missing g++"; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	test -f "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
	  || missing="$$missing python3-dev"; \
	ls /usr/lib/*/libEGL.so.1 >/dev/null 2>&1 || missing="$$missing libegl1"; \
	ls /usr/lib/*/libEGL_mesa.so.0 >/dev/null 2>&1 || missing="$$missing libegl-mesa0"; \
	ls /usr/lib/*/dri/swrast_dri.so >/dev/null 2>&1 || missing="$$missing libgl1-mesa-dri"; \
	if [ -z "$$missing" ]; then echo "nothing missing"; \
	else \
	  echo "missing:$$missing"; \
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  if [ -n "$$as_root" ] && ! command -v sudo >/dev/null; then \
	    echo "Please install them as root: apt-get install$$missing"; exit 1; fi; \
	  $$as_root apt-get update -q && $$as_root apt-get install -y -q --no-install-recommends $$missing; \
	fi
	@mkdir -p $(VENV) && touch $@

$(ENVIRONMENT): pyproject.toml setup.py $(CONSTRAINTS) | $(SYSTEM)
	$(SAY) "Python environment ($(VENV))"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --upgrade pip
	@$(BIN)/pip install -c $(CONSTRAINTS) -e '.[train,ros,dev]'
	@touch $@

$(MESSAGES): CMakeLists.txt package.xml $(wildcard action/* msg/* srv/* cmake/* overlay/tf2_msgs/*) $(ENVIRONMENT)
	$(SAY) "ROS messages"
	@for package in overlay/tf2_msgs .; do \
	  build=build/$(VENV)/$$(basename $$(cd $$package && pwd)); \
	  $(CMAKE) -G Ninja -S $$package -B $$build -DCMAKE_INSTALL_PREFIX=$(CURDIR)/$(VENV) -DBUILD_TESTING=OFF \
	    -DCMAKE_INSTALL_MESSAGE=NEVER -DPNP_ROS_MESSAGES_ONLY=ON --log-level=NOTICE --no-warn-unused-cli || exit 1; \
	  $(CMAKE) --build $$build --target install || exit 1; \
	done
	@touch $@

# The first image on a machine compiles kernels into Warp's cache: here, where it is seen, not in a node.
$(READY): $(wildcard pnp_ros/kernels/*.py) $(MESSAGES)
	$(SAY) "Kernels"
	@$(BIN)/python -m pnp_ros.cli.main compile
	@touch $@
