# `make help` lists the targets. Most share one virtual environment, and install what they need in it.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PEERS  := .venv-peers
FAMILIES := .venv-families
MANIFESTS := .venv-manifests
BULK   := .venv-bulk
TRAINING := $(VENV)/.training
LOCK   := $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade)
PORT   ?= $(or $(OCR_PORT),8000)
MODEL  ?= $(or $(OCR_MODEL_PATH),models/captcha.onnx)
RECIPE ?= auto
SPLIT  ?= test
HOSTILE_SHARE ?= 1
SOAK_MINUTES ?= 30

.PHONY: $(shell sed -nE 's/^([a-z-]+):.*\#\#.*/\1/p' $(MAKEFILE_LIST))

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

serve: $(VENV)/.service ## serve models/captcha.onnx on PORT (8000)
	@# exec, so that a signal to make reaches the service and not a shell around it.
	exec env OCR_PORT=$(PORT) OCR_MODEL_PATH="$(MODEL)" $(PY) -m service

test: $(VENV)/.dev ## run all tests but attacks and soak; ARGS= goes to pytest
	$(PY) -m pytest $(ARGS)

manifests: $(MANIFESTS)/.manifests ## install what the tests render and validate deploy/kubernetes with, in an environment of its own

coverage: $(VENV)/.dev ## run the tests as `make test` does, and report how much of the code they reach
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(ARGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

test-hostile: $(VENV)/.dev ## attack a running service; HOSTILE_SHARE=0.02 for a fiftieth of the requests
	HOSTILE_SHARE=$(HOSTILE_SHARE) $(PY) -m pytest -m hostile tests/hostile $(ARGS)

test-container-hostile: $(VENV)/.dev ## the same attacks, all together on a container with little memory
	HOSTILE_SHARE=$(HOSTILE_SHARE) $(PY) -m pytest -m container tests/hostile $(ARGS)

test-soak: $(VENV)/.dev ## run mixed load for SOAK_MINUTES (30), and check that nothing leaks
	SOAK_MINUTES=$(SOAK_MINUTES) $(PY) -m pytest -m soak tests/hostile $(ARGS)

test-bulk: $(BULK)/.bulk ## test reading in bulk on Ray, also with lost nodes, in an environment of its own; ARGS= goes to pytest
	$(BULK)/bin/python -m pytest tests/bulk $(ARGS)

test-generators: $(VENV)/.dev ## generate clients from docs/openapi.json and use them; needs Java, Node and the package indexes
	$(PY) -m pytest -m generators tests/client $(ARGS)

release-check: $(VENV)/.dev ## build both distributions and try them with every Python found; needs the package index
	.ci/release-check

reliability: $(VENV)/.dev ## write docs/reliability.md from the last test-hostile, test-container-hostile and test-soak
	$(PY) -m tests.hostile.report

lint: $(VENV)/.dev ## format check, lint and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

data: $(TRAINING) ## check and store labelled pictures: DATA=folder, zip or table; default: the public set
	$(PY) -m training data $(if $(DATA),"$(DATA)") $(ARGS)

synthetic: $(TRAINING) ## generate labelled pictures: OUT=folder ARGS="--count 2000 --length 4-7"
	$(PY) -m training synthetic "$(or $(OUT),$(error OUT=folder is missing: where are the pictures to go?))" $(ARGS)

base: $(TRAINING) ## train the base that `make train` starts from: half a day, resumes; ARGS="--minutes 300"
	$(PY) -m training base $(ARGS)

inspect: $(TRAINING) ## report on data/ in report/data: duplicates, odd labels; MODEL= or READINGS= judges the labels
	$(PY) -m training inspect $(if $(filter-out file,$(origin MODEL)),--model "$(MODEL)") $(if $(READINGS),--readings "$(READINGS)") $(ARGS)

preview: $(TRAINING) ## draw every distortion of training in report/: DATA=pictures; default: examples/
	$(PY) -m training preview $(if $(DATA),--pictures "$(DATA)") $(ARGS)

train: $(TRAINING) ## train on data/, or resume after an interruption; RECIPE=seed, for instance; FINETUNE=run or model; ARGS="--minutes 30"
	$(PY) -m training train --recipe $(RECIPE) $(if $(FINETUNE),--init-from "$(FINETUNE)") $(ARGS)

export-onnx: $(TRAINING) ## export the newest run, or RUN=, to models/captcha.onnx; FORCE=1 replaces a better model, QUANTIZE=int8 computes in 8-bit integers
	$(PY) -m training export --out "$(MODEL)" $(if $(FORCE),--force) $(if $(QUANTIZE),--quantize "$(QUANTIZE)") $(if $(RUN),"$(RUN)")

evaluate: $(TRAINING) ## read a split (SPLIT=test) through the exported model
	$(PY) -m training evaluate --model "$(MODEL)" --split $(SPLIT)

compare: $(TRAINING) ## compare exported models on a SPLIT: MODELS="a.onnx b.onnx"
	$(PY) -m training compare --split $(SPLIT) $(or $(MODELS),"$(MODEL)")

evaluate-robustness: $(TRAINING) ## read a split under fixed distortions; draws charts beside the model
	$(PY) -m training robustness --model "$(MODEL)" --split $(SPLIT) --charts "$$(dirname "$(MODEL)")"

evaluate-rejection: $(TRAINING) ## measure how well pictures without text are rejected
	$(PY) -m training rejection --model "$(MODEL)" --split $(SPLIT)

label-curve: $(TRAINING) ## measure exact match by number of labels, with a training for each; FINETUNE=run or model; resumes
	$(PY) -m training label-curve --charts "$$(dirname "$(MODEL)")" $(if $(FINETUNE),--init-from "$(FINETUNE)") $(ARGS)

cross-validate: $(TRAINING) ## read each picture with a model that has not seen it; FINETUNE=run or model; resumes
	$(PY) -m training cross-validate --out "$$(dirname "$(MODEL)")" $(if $(FINETUNE),--init-from "$(FINETUNE)") $(ARGS)

calibrate: $(TRAINING) ## fit the exported model's confidences anew, as the export does
	$(PY) -m training calibrate --model "$(MODEL)"

card: $(TRAINING) ## write the model card from the evaluations
	$(PY) -m training card --model "$(MODEL)" --out "$$(dirname "$(MODEL)")/README.md"

bench-decoding: $(TRAINING) ## measure the CPU time of decoding, beside that of the model
	$(PY) -m benchmarks.decoding --model "$(MODEL)"

bench-formats: $(VENV)/.dev ## measure the CPU time of the most expensive picture of every format, beside that of a normal one
	$(PY) -m benchmarks.formats --model "$(MODEL)"

screenshots: $(VENV)/.dev ## take the pictures of the page in docs/; needs chromium
	$(PY) -m tests.browser.screenshots docs

openapi: $(VENV)/.dev ## rewrite docs/openapi.json; a test compares it with the service
	$(PY) -m tests.api.openapi

bench: $(TRAINING) ## measure the CPU time of serving beside that of the model, and latency under load; ARGS=--pin
	$(PY) -m benchmarks.serving --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.report

bench-peers: $(TRAINING) $(PEERS)/.peers ## the same, also for Keras, LitServe, BentoML and Ray Serve, in an environment of their own
	$(PY) -m benchmarks.serving --model "$(MODEL)" --peers $(ARGS)
	$(PY) -m benchmarks.report

bench-bulk: $(TRAINING) $(BULK)/.bulk ## measure what reading in bulk costs beside `captcha-ocr predict`; ARGS="--pictures 20000"
	$(BULK)/bin/python -m benchmarks.bulk --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.scaling_report

bench-path: $(VENV)/.dev ## count the modules, calls and changes of module that one request passes
	$(PY) -m benchmarks.request_path --model "$(MODEL)"

bench-overload: $(TRAINING) ## measure goodput and latency with up to ten times the requests that can be served
	$(PY) -m benchmarks.overload --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.report

bench-lifecycle: $(TRAINING) ## count the requests that are lost when the service, or one of its workers, ends under load
	$(PY) -m benchmarks.lifecycle --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.report

bench-scaling: $(VENV)/.dev $(PEERS)/.peers ## measure what a picture costs with workers, behind HAProxy, and with Ray Serve
	$(PY) -m benchmarks.scaling --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.scaling_report

bench-families: $(TRAINING) $(FAMILIES)/.families ## measure how well twelve families of pictures are learned; hours, resumes; ARGS="--families a,b --labels 200"
	$(PY) -m benchmarks.families $(ARGS)

sbom: $(VENV)/.dev ## write build/sbom.cdx.json (CycloneDX) and docs/licences.md: what the image installs
	$(PY) -m tests.deploy.sbom

lock: $(VENV)/.dev ## rewrite all lock files; UPGRADE=1 takes the newest versions that pyproject.toml allows
	@# All locks are installed in one environment, so the largest one constrains the others.
	$(LOCK) pyproject.toml --extra dev --output-file requirements/dev.txt
	$(LOCK) pyproject.toml --constraint requirements/dev.txt --output-file requirements/service.txt
	for extra in traces bulk training; do \
	  $(LOCK) pyproject.toml --extra $$extra --constraint requirements/dev.txt \
	    --output-file requirements/$$extra.txt || exit 1; \
	done
	$(LOCK) pyproject.toml tests/bulk/requirements.in --extra bulk --constraint requirements/bulk.txt \
	  --output-file tests/bulk/requirements.txt
	$(LOCK) benchmarks/peers/requirements.in --output-file benchmarks/peers/requirements.txt
	$(LOCK) tests/deploy/requirements.in --output-file tests/deploy/requirements.txt
	$(LOCK) benchmarks/families/isolated/requirements.in --output-file benchmarks/families/isolated/requirements.txt \
	  --override benchmarks/families/isolated/overrides.txt
	$(if $(UPGRADE),npm update --silent --package-lock-only --omit-lockfile-registry-resolved --prefix benchmarks/families/isolated/npm)
	@# Checks that the service installs without a compiler on every Python that it is tested with.
	for platform in x86_64 aarch64; do for minor in 11 12 13 14; do \
	  $(PY) -m uv pip install --quiet --dry-run --no-build --require-hashes --target build/none \
	    --python-version 3.$$minor --python-platform $$platform-manylinux_2_28 \
	    -r requirements/service.txt || exit 1; \
	done; done

clean: ## remove the environment and caches, not data or runs
	rm -rf $(VENV) $(BULK) $(PEERS) $(FAMILIES) $(MANIFESTS) benchmarks/families/isolated/npm/node_modules .*_cache build dist

# Disk space and time of what the targets below install.
SIZE_service  := 250 MB, in about a minute
SIZE_training := 2.5 GB, most of it TensorFlow, in some minutes
SIZE_dev      := 3 GB, most of it TensorFlow, in some minutes

# A stamp file for each lock file: it exists once the packages are installed.
$(VENV)/.%: requirements/%.txt | $(PY)
	@echo "Installing the $$(grep -c '^[a-z].*==' $<) packages of $< into $(VENV): $(SIZE_$*)."
	$(PY) -m pip install --disable-pip-version-check --require-hashes -r $<
	@touch $@

# uv takes a tenth of pip's time. If it is missing or fails, pip installs the packages, or says why not.
INSTALL = $(VENV)/bin/uv pip install --quiet --python $(1)/bin/python --require-hashes -r $< 2>/dev/null || \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<

$(PEERS)/.peers: benchmarks/peers/requirements.txt
	"$(PYTHON)" -m venv $(PEERS)
	$(call INSTALL,$(PEERS))
	@touch $@

$(MANIFESTS)/.manifests: tests/deploy/requirements.txt
	"$(PYTHON)" -m venv $(MANIFESTS)
	$(call INSTALL,$(MANIFESTS))
	@touch $@

$(BULK)/.bulk: tests/bulk/requirements.txt
	"$(PYTHON)" -m venv $(BULK)
	$(call INSTALL,$(BULK))
	@touch $@

$(FAMILIES)/.families: benchmarks/families/isolated/requirements.txt benchmarks/families/isolated/npm/package-lock.json
	"$(PYTHON)" -m venv $(FAMILIES)
	@# --no-deps: the lock has all dependencies, in other versions than trdg pins.
	$(FAMILIES)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@# `npm ci` refuses a lock without the packages of platforms that its registry lacks.
	npm install --silent --no-save --ignore-scripts --prefix benchmarks/families/isolated/npm
	@touch $@

$(PY):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
