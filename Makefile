# make demo   a virtual environment with the library, CLI and service, and a first plan
# make test   everything the tests need, then linters, type checker and tests
# make help   the rest
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-slow lint fuzz soak docs serve train evaluate clean

help:
	@sed -n 's/^# make/make/p' Makefile

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[api]'
	touch $@

# Python compiles what is imported; pip would compile everything, most of which no test imports.
$(BIN)/.installed-test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -e '.[api,apply,catalog,cluster,dataset,docs,train,test]'
	touch $@ $(BIN)/.installed

demo: $(BIN)/.installed
	$(BIN)/fastewq plan examples/llama-3.1-8b.json
	@echo
	@echo "Start the service:  $(BIN)/fastewq serve        then open http://127.0.0.1:8000/docs"

lint: $(BIN)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes, a whole test file in one of them: half of the time is waiting for services and commands that start.
test: lint
	$(BIN)/pytest -n 2 --dist loadfile

# make test-slow   the tests marked slow as well
test-slow: $(BIN)/.installed-test
	$(BIN)/pytest -m "slow or not slow"

# make fuzz        ten thousand generated requests and ten thousand damaged configs against a running service
fuzz: $(BIN)/.installed-test
	$(BIN)/pytest tests/api/test_fuzz.py -m slow

# make soak        ten minutes of mixed load, then a worker under attack: fails where an answer or the memory is wrong
soak: $(BIN)/.installed-test
	$(BIN)/python benchmarks/service_soak.py
	$(BIN)/python benchmarks/service_memory.py

# make docs        the documentation site in site/
docs: $(BIN)/.installed-test
	$(BIN)/python tools/reference.py
	$(BIN)/sphinx-build -W -q docs site

# make train       fit the predictors in models/ again from training_data/
train: $(BIN)/.installed-test
	$(BIN)/fastewq train --objective entropy
	$(BIN)/fastewq train --objective sensitivity

# make evaluate    the evaluation protocol on training_data/
evaluate: $(BIN)/.installed-test
	$(BIN)/fastewq evaluate

# make serve       the service on port 8000
serve: $(BIN)/.installed
	$(BIN)/fastewq serve

# make clean       remove the virtual environment and caches
clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
