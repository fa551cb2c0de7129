# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: setup browser demo real test suite quick check bench docs results notebooks release-check corpus clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	$(MAKE) --no-print-directory browser
	touch $@

# The page of a report is tested in a real browser; where there is none and it can't be installed, those tests skip.
browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq >/dev/null 2>&1 && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null 2>&1; } || \
	  echo "no chromium, and it can't be installed here: the tests of the report page are skipped"

demo: setup
	$(BIN)/borngap demo

# A pretrained model: fetched once, then four prompts in which it has the wrong word in front. What it fetches: docs/models.md.
real: setup
	$(BIN)/borngap zoo fetch smollm2-135m
	mkdir -p borngap-real
	$(BIN)/borngap zoo contexts paper120 $(REAL) --most 4 2>borngap-real/left-out.txt >borngap-real/contexts.part
	mv borngap-real/contexts.part borngap-real/contexts.jsonl
	$(BIN)/borngap probe $(REAL) --contexts borngap-real/contexts.jsonl
	$(BIN)/borngap forecast $(REAL) --contexts borngap-real/contexts.jsonl --method lora
	$(BIN)/borngap finetune $(REAL) --contexts borngap-real/contexts.jsonl --method lora --out borngap-real/run
	$(BIN)/borngap report borngap-real/run --out borngap-real/page.html
real: REAL = --model smollm2-135m

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Style and types are looked at beside the tests, some of which wait for other processes.
test: setup
	$(MAKE) --jobs 2 --no-print-directory check suite

suite: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# A round of a minute or so: all but the slow tests.
quick: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	for script in benchmarks/*.py; do echo "## $$script"; $(BIN)/python $$script; done

# The site, into site/html. Warnings are errors.
docs: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	$(BIN)/python docs/make_site.py

# The page of results and the reports of stored studies: deleted, made again from the studies, and the same bytes.
results: setup
	rm -rf docs/results/claims.json
	for study in docs/results/*/reproduce.json; do (cd $$(dirname $$study) && rm -rf report.md claims.json figures); done
	$(BIN)/python docs/make_results.py
	git diff --exit-code --stat -- docs/results docs/results.md

# The outputs that are stored in the notebooks, made anew.
notebooks: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level ERROR \
	  --ExecutePreprocessor.record_timing=False docs/notebooks/*.ipynb

# What a release must hold: wheel, empty environment, notebooks, site, versions. Minutes, and it downloads packages.
release-check: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	$(BIN)/python -m pytest tests/release.py

# The packages whose docstrings the bundled models are trained on, at their pinned versions, beside the environment.
corpus: setup
	$(BIN)/python -c "import json; pins = json.load(open('src/borngap/zoo/packages.json')); \
	  print('\n'.join(f'{n}=={v}' for part in pins.values() for n, v in part.items()))" > .corpus.txt
	$(BIN)/python -m pip install --quiet --no-deps --only-binary=:all: --target .corpus --requirement .corpus.txt

clean:
	rm -rf .venv .corpus .corpus.txt zoo-work site dist build .pytest_cache .hypothesis .mypy_cache .ruff_cache
