# make check     style, types and the fast tests, about a minute (sets up .venv first)
# make test      style, types and every test; at least 90 % of the lines must have run,
#                but for those of flashhead/training
# make demo      make a talking-head video from the files in the repository
# make versions  make check in every Python that pyproject.toml lists (python3.10, ...)
# make lint | format | clean
#
# PYTHON=python3.13 VENV=.venv-3.13 chooses another Python, PYTEST_ARGS=tests/library/test_cli.py a
# part of the tests, whose coverage is not measured.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# By its script, which, unlike python -m, puts nothing in front of sys.path.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder
PIP := $(RUN) -m pip --disable-pip-version-check
LOCATE := tests/comfyui/locate.py

# One place for versions: the pins of pyproject.toml's `test` list.
PINS := sed -nE 's/^ *"([A-Za-z0-9_-]+==[^"]+)".*/\1/p' pyproject.toml
TORCH := $(shell $(PINS) | grep -E '^torch(vision|audio)?==')
VERSIONS := $(shell sed -nE 's/.*"Programming Language :: Python :: (3\.[0-9]+)".*/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help check test demo versions lint format clean comfyui-requirements

help:
	@sed -n 's/^# make /make /p' Makefile

check: lint
	$(PYTEST) -m "not slow" tests/library

ifdef PYTEST_ARGS
test: lint comfyui-requirements
	$(PYTEST) $(PYTEST_ARGS)
else
test: export FLASHHEAD_ROOT := $(CURDIR)
test: lint comfyui-requirements
	@rm -rf .cache/coverage
# A run that imports nothing, so that a file that no test imports counts as well.
	@$(RUN) -W ignore -m coverage run --source=flashhead,nodes $(LOCATE) >/dev/null
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(PYTEST)
	@$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report
endif

versions:
	@for version in $(VERSIONS); do \
		$(MAKE) check PYTHON=python$$version VENV=.venv-$$version || exit 1; \
	done

demo: $(VENV)/demo.stamp
	@mkdir -p out
	$(RUN) -m flashhead.demo --output out/demo.mp4

lint: $(VENV)/test.stamp
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	@mkdir -p .cache/types && ln -sfn "$(CURDIR)" .cache/types/pack
	$(RUN) -m mypy

format: $(VENV)/test.stamp
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf .venv* .cache .hypothesis .pytest_cache .ruff_cache build dist out *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment: torch first, by its pin, so that nothing later can choose another one.
$(VENV)/torch.stamp: pyproject.toml
	@test -x $(RUN) || { echo "Creating $(VENV)"; "$(PYTHON)" -m venv $(VENV); }
	@$(PINS) > $(VENV)/constraints.txt
	@echo "Installing $(TORCH)"
	@$(PIP) install --quiet $(TORCH)
	@touch $@

$(VENV)/demo.stamp: $(VENV)/torch.stamp
	@echo "Installing flashhead[standalone]"
	@$(PIP) install --quiet -c $(VENV)/constraints.txt -e ".[standalone]"
	@touch $@

$(VENV)/test.stamp: $(VENV)/torch.stamp
	@echo "Installing flashhead[standalone,training,test]"
	@$(PIP) install --quiet -c $(VENV)/constraints.txt -e ".[standalone,training,test]"
	@touch $@ $(VENV)/demo.stamp

# What the ComfyUI found here needs, again whenever its list differs from the one installed last.
comfyui-requirements: $(VENV)/test.stamp
	@comfyui="$$($(RUN) $(LOCATE) --clone)"; list="$$comfyui/requirements.txt"; \
	if [ -z "$$comfyui" ]; then echo "No ComfyUI found: its tests will be skipped"; \
	elif ! cmp -s "$$list" $(VENV)/comfyui.txt || [ $(VENV)/test.stamp -nt $(VENV)/comfyui.txt ]; then \
		echo "Installing what ComfyUI needs"; \
		$(PIP) install --quiet -c $(VENV)/constraints.txt -r "$$list" && \
		cp "$$list" $(VENV)/comfyui.txt; \
	fi
