# Every target is a script in scripts/, so that a person, make and CI run the same thing.
.DEFAULT_GOAL := help

# What is typed behind a target, NAME=value, is data. The scripts read it in their environment; neither make nor a shell
# evaluates it on the way.
typed := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,$(typed),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))

.PHONY: help run-local deploy-autodl test test-fast test-pins lint format docs lock release image docker-run docker-test compose-up bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s  %s\n", $$1, $$2 }' Makefile

run-local: ## Serve on this machine: http://127.0.0.1:6008/ (COSYSERVE_HOST, COSYSERVE_PORT change that)
	@scripts/run-local

deploy-autodl: ## Install on an AutoDL instance over SSH: make deploy-autodl HOST=connect.… PORT=12345 [ARGS="--plan"]
	@scripts/deploy-autodl

test: ## All checks and tests, installing what they need
	@scripts/test

test-fast: ## The same without the browser, MPI, containers and the set-up
	@scripts/test --fast

test-pins: ## The fast tests with the package versions that TensorRT-LLM's wheels pin
	@scripts/test-pins

lint: ## Style, types, spelling, prose and shell checks
	@scripts/lint

format: ## Format the code
	@scripts/setup .venv-dev main dev
	@.venv-dev/bin/ruff check --fix .
	@.venv-dev/bin/ruff format .
	@.venv-dev/bin/shfmt --write --indent 2 $$(scripts/shell-files)

docs: ## Generate the parts of docs/ that come from the code
	@scripts/setup .venv-dev main dev
	@.venv-dev/bin/python scripts/generate_docs.py

lock: ## Compile requirements/ anew after a dependency changed in pyproject.toml
	@scripts/setup .venv-dev main dev
	@PATH="$$PWD/.venv-dev/bin:$$PATH" .venv-dev/bin/python scripts/lock.py

release: ## Give what is committed a version, a date in CHANGELOG.md and a tag: make release VERSION=0.2.0
	@scripts/setup .venv-dev main dev
	@.venv-dev/bin/python scripts/release.py

image: ## Build the Docker image (FLAVOUR=cuda12, cuda13, slim or preview), and say how to run it
	@scripts/image

docker-run: ## Build the image if the clone is newer, and run it on http://127.0.0.1:6008/ with a volume named cosyserve
	@scripts/image run

docker-test: ## The container tests alone, starting a Docker engine where there is none
	@scripts/test --containers

compose-up: ## The same by compose, with the same container and volume (ARGS="--detach")
	@scripts/image compose

bench: ## Measure: the HTTP path against the pipeline, a ten-minute text, the start (as root: on broken hosts too)
	@scripts/setup .venv-dev main dev
	@.venv-dev/bin/python -m bench http_path
	@.venv-dev/bin/python -m bench long_text
	@.venv-dev/bin/python -m bench start_up
	@if [ "$$(id -u)" = 0 ] && command -v mpirun >/dev/null; then .venv-dev/bin/python -m bench broken_hosts; fi
