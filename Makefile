# Commands for development. They install everything into .venv, from requirements.lock.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := $(VENV)/peers

STARTED := $(shell date +%s)

PROTO_SOURCES := $(sort $(wildcard protos/*.proto))

.PHONY: install peers run test test-docker test-mesh mesh-tools lint types protos protos-check docs h2spec fuzz bench-gateway bench-callout bench-convert bench-telemetry bench-video lock clean images sbom package release-notes

install: $(STAMP)

# Two steps, because pip requires hashes either for all packages or for none: first the packages of
# the lock file, then this project without its dependencies.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Sluice needs Python 3.11 or newer (set PYTHON=...)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PYTHON) .ci/install $(BIN)/python requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

run: install
	$(BIN)/sluice up --demo $(ARGS)

# Prints the total at the end, also if a test has failed.
test: install peers protos-check
	$(if $(ARGS),,@echo "Running all tests, which takes about 20 minutes on two cores.")
	@$(if $(ARGS),$(BIN)/python -m pytest -m "not docker and not mesh" $(ARGS),$(PYTHON) .ci/tests $(BIN)/python); status=$$?; \
		seconds=$$(( $$(date +%s) - $(STARTED) )); \
		echo "make test took $$((seconds / 60)) min $$((seconds % 60)) s"; exit $$status

# Tests with Docker: the images, a gateway in containers, and docker-compose.yml.
test-docker: install images
	@TAG=$(TAG) $(BIN)/python -m pytest -m docker tests/integration/containers $(ARGS); status=$$?; \
		seconds=$$(( $$(date +%s) - $(STARTED) )); \
		echo "make test-docker took $$((seconds / 60)) min $$((seconds % 60)) s"; exit $$status

# Tests with a real Kubernetes API server and istiod.
test-mesh: mesh-tools
	@$(BIN)/python -m pytest -m mesh tests/mesh $(ARGS); status=$$?; \
		seconds=$$(( $$(date +%s) - $(STARTED) )); \
		echo "make test-mesh took $$((seconds / 60)) min $$((seconds % 60)) s"; exit $$status

# Builds the programs that test-mesh needs, with Go, once. SLUICE_MESH_TOOLS=FOLDER uses existing ones.
mesh-tools: install
	@$(PYTHON) -m tests.mesh.build_tools $(VENV)/mesh-tools

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

PROTOC = $(BIN)/python -m grpc_tools.protoc -I . --python_out=$(1) --pyi_out=$(1) $(PROTO_SOURCES)

protos: install
	$(call PROTOC,.)

# Fails if the committed code differs from the code that protos/*.proto generates.
protos-check: install
	@rm -rf $(VENV)/protos-check && mkdir -p $(VENV)/protos-check
	@$(call PROTOC,$(VENV)/protos-check)
	@for f in $(VENV)/protos-check/protos/*; do \
		cmp -s $$f protos/$$(basename $$f) || { echo "$$(basename $$f) is stale: run 'make protos'" >&2; exit 1; }; \
	done

# The client and the model server of other vendors that tests use. They have a virtual environment of
# their own, because their dependencies conflict with those of Sluice.
peers: $(PEERS)/.installed

$(PEERS)/.installed: tests/integration/peers/requirements.txt
	@$(PYTHON) -m venv --clear $(PEERS)
	@$(PYTHON) .ci/install $(PEERS)/bin/python tests/integration/peers/requirements.txt
	@touch $@

MONITORING := deploy/kubernetes/components/monitoring

# Generates the reference pages and the dashboards from the code, and the alerts for Kubernetes from
# those of Prometheus.
docs: install
	$(BIN)/python -m sluice.config.reference > docs/reference/config.md
	$(BIN)/python -m sluice.contract.reference > docs/reference/errors.md
	$(BIN)/python -m xds.admin.reference > docs/reference/admin-api.md
	$(BIN)/python -m sluice.config.warnings_reference > docs/reference/warnings.md
	COLUMNS=200 $(BIN)/python -m sluice.cli.reference > docs/reference/cli.md
	$(BIN)/python -m deploy.grafana.source
	for part in routes filters policies mesh-config; do \
		$(BIN)/python -m sluice.cli export istio deploy/istio/gateway.yaml --part $$part > deploy/istio/mesh/$$part.yaml || exit; \
	done
	@sed '/./s/^/  /' deploy/prometheus/alerts.yml | cat $(MONITORING)/rules.head - > $(MONITORING)/rules.yaml

# Runs h2spec, which checks the HTTP/2 conformance of the callout transport. Go builds h2spec.
h2spec: install
	tests/h2spec.sh

# Feeds two million random hostile inputs to every reader of client data. Takes about half an hour.
fuzz: install
	$(BIN)/python -m bench.fuzz $(ARGS)

# Measures whole gateways: text beside plain Envoy, by native placement and by the callout, with one
# model and with many; and pictures.
bench-gateway: install
	@{ command -v wrk && command -v nginx; } >/dev/null || { apt-get update -qq && apt-get install -y -qq wrk nginx-light; }
	$(BIN)/python -m bench.gateway $(ARGS)
	$(BIN)/python -m bench.pictures

# Measures the cost of a callout.
bench-callout: install
	@{ command -v wrk && command -v nginx; } >/dev/null || { apt-get update -qq && apt-get install -y -qq wrk nginx-light; }
	$(BIN)/python -m bench.callout $(ARGS)

# Measures the cost of conversion.
bench-convert: install
	@command -v wrk >/dev/null || { apt-get update -qq && apt-get install -y -qq wrk; }
	$(BIN)/python -m bench.convert $(ARGS)

# Measures the cost of access log reports, metrics and the access log.
bench-telemetry: install
	@command -v wrk >/dev/null || { apt-get update -qq && apt-get install -y -qq wrk; }
	$(BIN)/python -m bench.telemetry $(ARGS)

# Measures the video service: uploads beside the bare decoder, and cameras. GStreamer serves as cameras.
bench-video: install
	@$(BIN)/python -m tests.integration.rtsp_camera || { apt-get update -qq && apt-get install -y -qq --no-install-recommends gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi; }
	$(BIN)/python -m bench.video $(ARGS)

# Pins all dependencies of the product and of its tests, with hashes, and those of the images: the
# packages that are in both have the same versions.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
PINNED  := deploy/images/requirements

lock: install
	$(COMPILE) pyproject.toml --all-extras --group dev --output-file requirements.lock
	$(COMPILE) tests/integration/peers/requirements.in --output-file tests/integration/peers/requirements.txt
	$(COMPILE) pyproject.toml --extra kubernetes --constraint requirements.lock --output-file $(PINNED)/sluice.txt
	@for group in envoy video examples build sbom; do \
		$(COMPILE) $(PINNED)/$$group.in --constraint requirements.lock --output-file $(PINNED)/$$group.txt || exit 1; \
	done

# Builds the images `sluice`, `sluice-envoy`, `sluice-video` and `sluice-examples`, with the tag TAG, from the
# base image BASE.
# The build uses the certificates and the settings of pip of this machine, if PIP_CERT and
# PIP_CONFIG_FILE name them. The images do not contain them.
DOCKER ?= docker
BASE   ?= debian:bookworm-slim
TAG    ?= latest
IMAGES := sluice sluice-envoy sluice-video sluice-examples
BUILD_IMAGE = DOCKER_BUILDKIT=1 $(DOCKER) build --quiet --file deploy/images/Dockerfile --build-arg BASE=$(BASE) \
	$(PIP_CERT:%=--secret id=ca,src=%) $(PIP_CONFIG_FILE:%=--secret id=pip,src=%) $(BUILD_OPTIONS)

images:
	@for image in $(IMAGES); do \
		$(BUILD_IMAGE) --target $$image --tag $$image:$(TAG) . >/dev/null || exit 1; \
		echo "built $$image:$(TAG)"; \
	done

# Lists the Python packages of the images, with versions and licenses, in the format CycloneDX.
sbom:
	@$(BUILD_IMAGE) --target sbom --output dist . >/dev/null
	@echo "wrote dist/sluice.cdx.json"

# Builds the wheel and the source archive of a release: `make package TAG=v0.2.0`.
package: install
	.ci/release check "$$TAG"
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist

release-notes:
	@.ci/release notes "$$TAG"

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
