# Packages, their pins, the checks of the template, and the way to AWS. Included by the Makefile.

LAMBDA_PYTHON := 3.13
ARCHITECTURE := arm64
STACK := day2
TEMPLATE := infra/template.yaml
PACKAGE := $(MADE)/build/python$(LAMBDA_PYTHON)-$(ARCHITECTURE)
LOCKS := $(basename $(notdir $(wildcard infra/requirements/*.in)))

.PHONY: package
package: ## Build the zips for Lambda: [MIGRATIONS=…] [ARCHITECTURE=x86_64] [PYTHON_FOR_LAMBDA=/path/to/python3.13]
	$(call needs,dev)
	@$(DEV) -m infra.rds_ca --compare
	@$(DEV) -m infra.package --python $(LAMBDA_PYTHON) --architecture $(ARCHITECTURE)

.PHONY: deploy
deploy: ## Deploy on AWS: make deploy BUCKET=name [MIGRATIONS=…] [STACK=day2] [PARAMETERS="Name=value …"] [YES=1]
	@test -n "$(BUCKET)" || { echo 'make deploy BUCKET=name: the bucket for the zips, in your region' >&2; exit 2; }
	$(call needs,dev)
	$(if $(findstring CaFile=,$(PARAMETERS)),,@$(DEV) -m infra.rds_ca --require)
	@$(MAKE) package
	@$(DEV) -m infra.account --stack $(STACK) $(if $(call said,$(YES)),--yes )"deploy $(PACKAGE) there"
	aws s3 cp --recursive --no-progress $(PACKAGE)/upload s3://$(BUCKET)/
	aws cloudformation deploy --stack-name $(STACK) --template-file $(TEMPLATE) --s3-bucket $(BUCKET) \
	  --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --no-fail-on-empty-changeset \
	  --parameter-overrides ArtifactBucket=$(BUCKET) $$(cat $(PACKAGE)/parameters) $(PARAMETERS)

# None of the three asks anybody anything: no telemetry, no newer release, no policies from elsewhere.
.PHONY: validate
validate: ## Check the template with cfn-lint, SAM and checkov
	$(call needs,sam checkov cfn-lint)
	$(VENVS)/cfn-lint/bin/cfn-lint $(TEMPLATE)
	SAM_CLI_TELEMETRY=0 $(VENVS)/sam/bin/sam validate --lint --template $(TEMPLATE) --region us-east-1
	$(VENVS)/checkov/bin/checkov --file $(TEMPLATE) --framework cloudformation --skip-download --quiet --compact

.PHONY: lock
lock: ## Pin all libraries anew, with hashes, from infra/requirements/*.in
	$(call needs,uv)
	@cd infra/requirements && for name in $(LOCKS); do \
	  echo "$$name.txt" && $(if $(DAY2_MADE),$(VENVS),../../.venvs)/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-strip-extras --no-emit-index-url --custom-compile-command "make lock" \
	    "$$name.in" --output-file "$$name.txt" || exit; \
	done

.PHONY: refresh-ca
refresh-ca: ## Fetch the root certificates of Amazon RDS from AWS's trust stores
	$(call needs,dev)
	@$(DEV) -m infra.rds_ca
