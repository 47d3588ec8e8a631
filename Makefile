# make demo | test | test-wheel | test-jazzy | check | bench | bench-solvers | docs | clean. The first run makes everything they need in .venv.
# PYTHON=python3.x chooses the interpreter (3.10 to 3.13); pip's own settings (PIP_*, pip.conf) choose where from.

PYTHON ?= python3
BIN := .venv/bin
JAZZY := .venv-jazzy
JAZZY_PYTHON ?= python3.12
SYSTEM := .venv/.system
ENVIRONMENT := .venv/.environment
MESSAGES := .venv/.messages
READY := .venv/.ready
CMAKE := VIRTUAL_ENV=$(CURDIR)/.venv PATH=$(CURDIR)/$(BIN):$$PATH cmake
# benchmarks share the generators of the tests
BENCH := PYTHONPATH=test$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python
SAY = @printf '\n== %s\n'

# Two workers on two cores: one thread each. Nodes talk to this machine alone.
export OMP_NUM_THREADS ?= 1
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.DELETE_ON_ERROR:
.PHONY: all demo test test-wheel test-jazzy check bench bench-solvers docs clean

all: $(READY)

demo: $(READY)
	@$(BIN)/python -m pnp_ros.cli.main demo $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# The wheel in an environment that holds what it declares and no more: no ROS, no OpenGL, no checkout.
test-wheel: $(READY)
	@$(BIN)/python -m pytest -n 0 -m wheel test/packaging $(ARGS)

# The same tests with the versions of ROS 2 Jazzy, without ROS itself: some minutes and gigabytes, not part of .ci/run.
test-jazzy:
	@test -x $(JAZZY)/bin/python || $(JAZZY_PYTHON) -m venv $(JAZZY)
	@$(JAZZY)/bin/pip install -q -c constraints/jazzy_tested.txt -e '.[train,dev]'
	@$(JAZZY)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

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
	@$(BIN)/pip install -q -c constraints/tested.txt -e '.[docs]'
	@$(BIN)/python -m sphinx -q -W docs out/docs && echo out/docs/index.html

# What was trained, recorded or measured (objects/, out/) is not make's to delete.
clean:
	rm -rf .venv .venv-jazzy build install log out/docs

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
	@mkdir -p .venv && touch $@

$(ENVIRONMENT): pyproject.toml setup.py constraints/tested.txt | $(SYSTEM)
	$(SAY) "Python environment (.venv)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --upgrade pip
	@$(BIN)/pip install -c constraints/tested.txt -e '.[train,ros,dev]'
	@touch $@

$(MESSAGES): CMakeLists.txt package.xml $(wildcard action/* msg/* srv/* cmake/* overlay/tf2_msgs/*) $(ENVIRONMENT)
	$(SAY) "ROS messages"
	@for package in overlay/tf2_msgs .; do \
	  build=build/$$(basename $$(cd $$package && pwd)); \
	  $(CMAKE) -G Ninja -S $$package -B $$build -DCMAKE_INSTALL_PREFIX=$(CURDIR)/.venv -DBUILD_TESTING=OFF \
	    -DCMAKE_INSTALL_MESSAGE=NEVER -DPNP_ROS_MESSAGES_ONLY=ON --log-level=NOTICE --no-warn-unused-cli || exit 1; \
	  $(CMAKE) --build $$build --target install || exit 1; \
	done
	@touch $@

# The first image on a machine compiles kernels into Warp's cache: here, where it is seen, not in a node.
$(READY): $(wildcard pnp_ros/kernels/*.py) $(MESSAGES)
	$(SAY) "Kernels"
	@$(BIN)/python -m pnp_ros.cli.main compile
	@touch $@
