# What an operator does by hand, on the local AWS. Included by the Makefile.

.PHONY: failures
failures: ## List the events that failed for good, with their errors
	$(call needs,dev)
	@eval "$$($(DEV) -m infra.local env)" && $(DEV) -m infra.redrive --list

.PHONY: redrive
redrive: ## Send them again, once the cause is mended
	$(call needs,dev)
	@eval "$$($(DEV) -m infra.local env)" && $(DEV) -m infra.redrive

.PHONY: bench-sweep
bench-sweep: ## Measure a sweep over 200 instances: make bench-sweep [COUNT=200]
	$(call needs,dev localstack lambda)
	@$(DEV) -m tests.operations.bench_sweep $(COUNT)
