# `make help` lists the targets. One virtual environment holds whatever the targets called so far need.

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

manifests: $(MANIFESTS)/.manifests ## install what renders and validates deploy/kubernetes in the tests, apart

coverage: $(VENV)/.dev ## run the tests as `make test` does, and say how much of the code they reach
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(ARGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

test-hostile: $(VENV)/.dev ## attack a running service; HOSTILE_SHARE=0.02 for a fiftieth of the requests
	HOSTILE_SHARE=$(HOSTILE_SHARE) $(PY) -m pytest -m hostile tests/hostile $(ARGS)

test-container-hostile: $(VENV)/.dev ## the same attacks, all together on a container with little memory
	HOSTILE_SHARE=$(HOSTILE_SHARE) $(PY) -m pytest -m container tests/hostile $(ARGS)

test-soak: $(VENV)/.dev ## SOAK_MINUTES (30) of mixed load, in which nothing may leak
	SOAK_MINUTES=$(SOAK_MINUTES) $(PY) -m pytest -m soak tests/hostile $(ARGS)

test-bulk: $(BULK)/.bulk ## read in bulk on Ray, also with lost nodes, installed apart; ARGS= goes to pytest
	$(BULK)/bin/python -m pytest tests/bulk $(ARGS)

test-generators: $(VENV)/.dev ## generate clients from docs/openapi.json and use them; needs Java, Node and the indexes
	$(PY) -m pytest -m generators tests/client $(ARGS)

release-check: $(VENV)/.dev ## build both distributions and try them with every Python found; needs the index
	.ci/release-check

reliability: $(VENV)/.dev ## write docs/reliability.md from what these three have measured
	$(PY) -m tests.hostile.report

lint: $(VENV)/.dev ## format check, lint and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

data: $(TRAINING) ## check and store labelled pictures: DATA=folder, zip or manifest; default: the public set
	$(PY) -m training data $(if $(DATA),"$(DATA)") $(ARGS)

synthetic: $(TRAINING) ## generate labelled pictures: OUT=folder ARGS="--count 2000 --length 4-7"
	$(PY) -m training synthetic "$(or $(OUT),$(error OUT=folder is missing: where are the pictures to go?))" $(ARGS)

base: $(TRAINING) ## make the model that trainings start from, or go on with it: half a day; ARGS="--minutes 300"
	$(PY) -m training base $(ARGS)

inspect: $(TRAINING) ## report on data/ in report/data: duplicates, odd labels; MODEL= or READINGS= judges the labels
	$(PY) -m training inspect $(if $(filter-out file,$(origin MODEL)),--model "$(MODEL)") $(if $(READINGS),--readings "$(READINGS)") $(ARGS)

preview: $(TRAINING) ## draw every distortion of training in report/: DATA=pictures; default: examples/
	$(PY) -m training preview $(if $(DATA),--pictures "$(DATA)") $(ARGS)

train: $(TRAINING) ## train on data/, or resume what was interrupted; RECIPE=seed, say; FINETUNE=run or model; ARGS="--minutes 30"
	$(PY) -m training train --recipe $(RECIPE) $(if $(FINETUNE),--init-from "$(FINETUNE)") $(ARGS)

export-onnx: $(TRAINING) ## export the newest run, or RUN=, to models/captcha.onnx; FORCE=1 replaces a better model, QUANTIZE=int8 computes in 8-bit integers
	$(PY) -m training export --out "$(MODEL)" $(if $(FORCE),--force) $(if $(QUANTIZE),--quantize "$(QUANTIZE)") $(if $(RUN),"$(RUN)")

evaluate: $(TRAINING) ## read a split (SPLIT=test) through the exported model
	$(PY) -m training evaluate --model "$(MODEL)" --split $(SPLIT)

compare: $(TRAINING) ## exported models side by side on a SPLIT: MODELS="a.onnx b.onnx"
	$(PY) -m training compare --split $(SPLIT) $(or $(MODELS),"$(MODEL)")

evaluate-robustness: $(TRAINING) ## read a split under fixed distortions; draws charts beside the model
	$(PY) -m training robustness --model "$(MODEL)" --split $(SPLIT) --charts "$$(dirname "$(MODEL)")"

evaluate-rejection: $(TRAINING) ## tell pictures without text from those with one
	$(PY) -m training rejection --model "$(MODEL)" --split $(SPLIT)

label-curve: $(TRAINING) ## exact match by number of labels, each trained anew; FINETUNE=run or model; resumes
	$(PY) -m training label-curve --charts "$$(dirname "$(MODEL)")" $(if $(FINETUNE),--init-from "$(FINETUNE)") $(ARGS)

cross-validate: $(TRAINING) ## read each picture with a model that has not seen it; FINETUNE=run or model; resumes
	$(PY) -m training cross-validate --out "$$(dirname "$(MODEL)")" $(if $(FINETUNE),--init-from "$(FINETUNE)") $(ARGS)

calibrate: $(TRAINING) ## fit the exported model's confidences anew, as the export does
	$(PY) -m training calibrate --model "$(MODEL)"

card: $(TRAINING) ## write the model card from the evaluations
	$(PY) -m training card --model "$(MODEL)" --out "$$(dirname "$(MODEL)")/README.md"

bench-decoding: $(TRAINING) ## what decoding costs beside the model
	$(PY) -m benchmarks.decoding --model "$(MODEL)"

bench-formats: $(VENV)/.dev ## what the dearest accepted picture of every format costs, beside a normal one
	$(PY) -m benchmarks.formats --model "$(MODEL)"

screenshots: $(VENV)/.dev ## the page's pictures in docs/; needs chromium
	$(PY) -m tests.browser.screenshots docs

openapi: $(VENV)/.dev ## write docs/openapi.json anew, which a test compares
	$(PY) -m tests.api.openapi

bench: $(TRAINING) ## what serving costs beside the model, and latency under load; ARGS=--pin
	$(PY) -m benchmarks.serving --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.report

bench-peers: $(TRAINING) $(PEERS)/.peers ## the same with Keras, and with LitServe and BentoML, installed apart
	$(PY) -m benchmarks.serving --model "$(MODEL)" --peers $(ARGS)
	$(PY) -m benchmarks.report

bench-bulk: $(TRAINING) $(BULK)/.bulk ## what reading in bulk costs beside `captcha-ocr predict`; ARGS="--pictures 20000"
	$(BULK)/bin/python -m benchmarks.bulk --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.scaling_report

bench-path: $(VENV)/.dev ## the modules, calls and changes of module that one request passes
	$(PY) -m benchmarks.request_path --model "$(MODEL)"

bench-overload: $(TRAINING) ## what becomes of up to ten times the requests that can be served
	$(PY) -m benchmarks.overload --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.report

bench-lifecycle: $(TRAINING) ## what is lost when the service, or one of its workers, ends under load
	$(PY) -m benchmarks.lifecycle --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.report

bench-scaling: $(VENV)/.dev $(PEERS)/.peers ## what a picture costs with workers, behind HAProxy, and with Ray Serve
	$(PY) -m benchmarks.scaling --model "$(MODEL)" $(ARGS)
	$(PY) -m benchmarks.scaling_report

bench-families: $(TRAINING) $(FAMILIES)/.families ## twelve families of pictures, learned anew; hours, resumes; ARGS="--families a,b --labels 200"
	$(PY) -m benchmarks.families $(ARGS)

sbom: $(VENV)/.dev ## write build/sbom.cdx.json (CycloneDX) and docs/licences.md: what the image installs
	$(PY) -m tests.deploy.sbom

lock: $(VENV)/.dev ## write all locks anew; UPGRADE=1 takes the newest versions that pyproject.toml allows
	@# All of them end up in one environment, so the largest binds the others.
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
	@# The service installs without a compiler on every Python that it is tested with.
	for platform in x86_64 aarch64; do for minor in 11 12 13 14; do \
	  $(PY) -m uv pip install --quiet --dry-run --no-build --require-hashes --target build/none \
	    --python-version 3.$$minor --python-platform $$platform-manylinux_2_28 \
	    -r requirements/service.txt || exit 1; \
	done; done

clean: ## remove the environment and caches, not data or runs
	rm -rf $(VENV) $(BULK) $(PEERS) $(FAMILIES) $(MANIFESTS) benchmarks/families/isolated/npm/node_modules .*_cache build dist

# What the stamps below install, on disk.
SIZE_service  := 250 MB, in about a minute
SIZE_training := 2.5 GB, most of it TensorFlow, in some minutes
SIZE_dev      := 3 GB, most of it TensorFlow, in some minutes

# A stamp per lock file: its packages are in the environment.
$(VENV)/.%: requirements/%.txt | $(PY)
	@echo "Installing the $$(grep -c '^[a-z].*==' $<) packages of $< into $(VENV): $(SIZE_$*)."
	$(PY) -m pip install --disable-pip-version-check --require-hashes -r $<
	@touch $@

# uv needs a tenth of the time. Where it is missing or fails, pip installs, or says why it cannot.
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
	@# Without dependencies: the lock has them all, and differs from what trdg pins.
	$(FAMILIES)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@# `npm ci` refuses a lock without the packages of platforms that its registry lacks.
	npm install --silent --no-save --ignore-scripts --prefix benchmarks/families/isolated/npm
	@touch $@

$(PY):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
