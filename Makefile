# make test   check style, then run every test (sets up .venv first)
# make demo   make a talking-head video from the files in the repository
# make lint | format | clean

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check
LOCATE := tests/comfyui/locate.py

# One place for versions: the pins of pyproject.toml's `test` list.
PINS := sed -nE 's/^ *"([A-Za-z0-9_-]+==[^"]+)".*/\1/p' pyproject.toml
TORCH := $(shell $(PINS) | grep -E '^torch(vision|audio)?==')

.DEFAULT_GOAL := help
.PHONY: help test demo lint format clean comfyui-requirements

help:
	@sed -n 's/^# make /make /p' Makefile

test: $(VENV)/test.stamp comfyui-requirements
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	OMP_NUM_THREADS=1 $(RUN) -P -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

demo: $(VENV)/demo.stamp
	@mkdir -p out
	$(RUN) -m flashhead.demo --output out/demo.mp4

lint: $(VENV)/test.stamp
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/test.stamp
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf $(VENV) .cache .hypothesis .pytest_cache .ruff_cache build dist out *.egg-info
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
