# Needs python3 (3.11 to 3.13), git and make.  Everything else is installed from hashed locks into
# .venvs/, and the local AWS keeps its state in one folder that `make clean` removes.

.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

PYTHON := python3

# Only what make itself is given counts: another tool's NAME or VERSION may be in the shell. It goes
# by the recipe's environment, where quotes are just text, and as it was given: make would take a
# ${word} in it for a variable of its own.
GIVEN := EVENT PAYLOAD TARGET NAME MIGRATIONS POSTGRES GOLDEN DIR VERSION INSTANCE LOG PARAMETERS \
  COUNT CLUSTER YES BUCKET
HERE := $(foreach one,$(GIVEN),$(if $(filter command,$(firstword $(origin $(one)))),$(one)))
ELSEWHERE := $(foreach one,$(GIVEN),$(if $(filter environment,$(firstword $(origin $(one)))),$(one)))
$(foreach one,$(HERE),$(eval override $(one) := $$(value $(one))))
export $(HERE)
# What is not given is not there: an empty MIGRATIONS would be a folder that somebody forgot.
$(foreach one,$(ELSEWHERE),$(eval override $(one) :=)$(eval unexport $(one)))
# Whoever wrote it before make, and not behind it, is told.
$(if $(ELSEWHERE),$(shell awk -F ':.*## ' -v goals=' $(MAKECMDGOALS) ' -v names='$(ELSEWHERE)' ' \
  /^[a-z-]+:.*## / && index(goals, " " $$1 " ") { split(names, each, " "); for (i in each) if ($$2 ~ each[i] "=") \
  printf "%s of your shell is not read: make %s %s=…\n", each[i], $$1, each[i] }' $(MAKEFILE_LIST) infra/*.mk >&2))

# The shell's own Python is none of ours: a library of its path would go before that of the lock.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONINSPECT PYTHONWARNINGS PYTHONSTARTUP

# $(call needs,NAMES) installs what is missing or stale of the virtual environments.
needs = @$(PYTHON) infra/environments.py $(1)
# $(call said,WORD) is not empty for a yes: CLUSTER=0 is none.
said = $(filter-out 0 n no false off,$(1))
# What is made from this checkout is made in it, unless DAY2_MADE names another folder.
MADE := $(or $(DAY2_MADE),.)
VENVS := $(MADE)/.venvs
DEV := $(VENVS)/dev/bin/python
LOCAL := @$(DEV) -m infra.local

# The longest first: they are made side by side.
RUNTIME_ENVIRONMENTS := localstack dev lambda
TEST_ENVIRONMENTS := $(RUNTIME_ENVIRONMENTS)

include $(wildcard infra/*.mk)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Set up all from nothing and play the three triggers before your eyes [CLUSTER=1] [MIGRATIONS=…]
	$(call needs,$(RUNTIME_ENVIRONMENTS))
	$(LOCAL) demo $(if $(call said,$(CLUSTER)),--cluster)

.PHONY: test
test: ## Set up all from nothing and run every test
	$(call needs,$(TEST_ENVIRONMENTS))
	@$(DEV) -m tests

.PHONY: test-postgres
test-postgres: ## Run the tests that need a server on PostgreSQL VERSION=16, or on each of 14 to 18
	$(call needs,$(TEST_ENVIRONMENTS))
	@$(DEV) -m tests.postgres $(if $(VERSION),"$$VERSION")

.PHONY: test-terraform
test-terraform: ## Keep an instance, a cluster and their targets in Terraform: TERRAFORM_PLUGINS=folder of the AWS provider
	$(call needs,$(RUNTIME_ENVIRONMENTS))
	@$(DEV) -m tests.terraform

.PHONY: up
up: ## Start the local AWS, and package and deploy this checkout to it: [PARAMETERS="Name=value …"] [MIGRATIONS=…]
	$(call needs,$(RUNTIME_ENVIRONMENTS))
	$(LOCAL) up --parameters="$$PARAMETERS"

.PHONY: down
down: ## Stop the local AWS and every process it started
	$(call needs,dev)
	$(LOCAL) down

.PHONY: clean
clean: ## Stop it and remove its state
	$(call needs,dev)
	$(LOCAL) clean
	@rm -rf $(MADE)/build

.PHONY: status
status: ## Tell whether the local AWS is up, and its instances
	$(call needs,dev)
	$(LOCAL) status

.PHONY: env
env: ## Print what AWS clients need: eval "$(make -s env)"
	$(call needs,dev)
	$(LOCAL) env

.PHONY: invoke
invoke: ## Invoke the function with EVENT=file or PAYLOAD='{…}' [LOG=raw]
	$(call needs,dev)
	$(LOCAL) invoke --event="$$EVENT" --payload="$$PAYLOAD"

.PHONY: plan
plan: ## Print the SQL that is pending on INSTANCE=orders, up to TARGET=004 or its own target
	$(call needs,dev)
	$(LOCAL) plan --instance="$$INSTANCE" --target="$$TARGET"

.PHONY: db-up
db-up: up ## Make a local database and its secret, to try revisions on: [MIGRATIONS=…]
	$(LOCAL) database-up

.PHONY: db-reset
db-reset: up ## Make that database anew, empty: [MIGRATIONS=…]
	$(LOCAL) database-reset

.PHONY: list-migrations
list-migrations: ## List the revisions with their descriptions: [MIGRATIONS=…]
	$(call needs,dev)
	$(LOCAL) revisions

.PHONY: test-lambda
test-lambda: up ## Have the function apply all revisions to that database: [MIGRATIONS=…] [LOG=raw]
	$(LOCAL) migrate

.PHONY: test-lambda-to
test-lambda-to: ## Have it apply them up to TARGET=revision [MIGRATIONS=…] [LOG=raw]
	$(call needs,dev)
	$(LOCAL) check-target --target="$$TARGET"
	@$(MAKE) up
	$(LOCAL) migrate --target="$$TARGET"

.PHONY: golden
golden: ## Write the golden files of the tests anew; review them as a diff
	$(call needs,$(TEST_ENVIRONMENTS))
	@DAY2_WRITE_GOLDEN=1 $(DEV) -m pytest -q tests/unit tests/integration
	@$(DEV) -m tests.postgres --golden
	@git diff --stat -- tests/golden

.PHONY: lint
lint: ## Check style and types
	$(call needs,dev)
	@$(DEV) -m ruff check .
	@$(DEV) -m ruff format --check .
	@$(DEV) -m mypy

.PHONY: new-migrations
new-migrations: ## Make a folder of migrations for a repository of your own: DIR=../acme-migrations
	$(call needs,dev)
	@$(DEV) -m infra.new_migrations

.PHONY: new-migration
new-migration: ## Write the skeleton of the next revision: NAME="what it does" [MIGRATIONS=…]
	$(call needs,dev)
	$(LOCAL) new-revision -- "$$NAME"

.PHONY: lint-migrations
lint-migrations: ## Read the SQL of every revision for what is dangerous on a live database: [MIGRATIONS=…]
	$(call needs,dev)
	@$(DEV) -m infra.lint

.PHONY: test-migrations
test-migrations: ## Try a folder of migrations: [MIGRATIONS=…] [POSTGRES="15 17"] [GOLDEN=write]
	$(call needs,dev)
	@$(DEV) -m infra.trial

.PHONY: chaos
chaos: ## Kill, cut, block and crowd the function many times, and print what was lost (5 min)
	$(call needs,dev)
	@$(DEV) -m tests.chaos

.PHONY: bench
bench: ## Measure the function against floors and peers, side by side; writes build/benchmarks/result.json
	$(call needs,dev lambda localstack)
	@$(DEV) -m tests.benchmarks

.PHONY: bench-sweep
bench-sweep: ## Measure a sweep over 200 instances: make bench-sweep [COUNT=200]
	$(call needs,dev localstack lambda)
	@$(DEV) -m tests.operating.bench_sweep $(if $(COUNT),"$$COUNT")
