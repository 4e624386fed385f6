# Packages, their pins, the checks of the template, and the way to AWS. Included by the Makefile.

PYTHON ?= python3
LAMBDA_PYTHON ?= 3.13
ARCHITECTURE ?= arm64
STACK ?= day2
TEMPLATE := infra/template.yaml
PACKAGE := build/python$(LAMBDA_PYTHON)-$(ARCHITECTURE)
LOCKS := $(patsubst %.in,%,$(wildcard infra/requirements/*.in))

# Tools that disagree about each other's dependencies, so each has an environment of its own.
TOOLS := cfn-lint sam checkov uv

# A lock is complete, so nothing is resolved: pip before 23.3 stumbles over pins with extras if it is.
$(TOOLS:%=.venvs/%/.locked): .venvs/%/.locked: infra/requirements/%.txt
	@rm -rf .venvs/$*
	@echo "installing $*, which takes a minute at most"
	@$(PYTHON) -m venv .venvs/$*
	@.venvs/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@cp $< $@

.PHONY: package
package: ## Build the zips of the function and its layer for Lambda, with its own Python (PYTHON_FOR_LAMBDA=…)
	@$(PYTHON) -m infra.package --python $(LAMBDA_PYTHON) --architecture $(ARCHITECTURE)

.PHONY: deploy
deploy: package ## Deploy on AWS: make deploy BUCKET=name [STACK=day2] [PARAMETERS="Name=value …"]
	@test -n "$(BUCKET)" || { echo 'make deploy BUCKET=name: the bucket for the two zips, in your region' >&2; exit 2; }
	aws s3 cp --recursive $(PACKAGE)/upload s3://$(BUCKET)/
	aws cloudformation deploy --stack-name $(STACK) --template-file $(TEMPLATE) \
	  --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --no-fail-on-empty-changeset \
	  --parameter-overrides ArtifactBucket=$(BUCKET) $$(cat $(PACKAGE)/parameters) $(PARAMETERS)

# None of the three asks anybody anything: no telemetry, no newer release, no policies from elsewhere.
.PHONY: validate
validate: .venvs/cfn-lint/.locked .venvs/sam/.locked .venvs/checkov/.locked ## Check the template with cfn-lint, SAM and checkov
	.venvs/cfn-lint/bin/cfn-lint $(TEMPLATE)
	SAM_CLI_TELEMETRY=0 .venvs/sam/bin/sam validate --lint --template $(TEMPLATE) --region us-east-1
	.venvs/checkov/bin/checkov --file $(TEMPLATE) --framework cloudformation --skip-download --quiet --compact

.PHONY: lock
lock: .venvs/uv/.locked ## Pin all libraries anew, with hashes, from infra/requirements/*.in
	@cd infra/requirements && for name in $(notdir $(LOCKS)); do \
	  echo "$$name.txt" && ../../.venvs/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-strip-extras --no-emit-index-url --custom-compile-command "make lock" \
	    "$$name.in" --output-file "$$name.txt" || exit; \
	done

.PHONY: refresh-ca
refresh-ca: ## Fetch the root certificates of Amazon RDS from AWS's trust store
	@.venvs/dev/bin/python -m infra.rds_ca
