# What an operator does by hand, on the local AWS. Included by the Makefile.

.PHONY: failures
failures: ## List the events that failed for good, with their errors
	$(call needs,dev)
	@eval "$$($(DEV) -m infra.local env)" && $(DEV) -m infra.redrive --list

.PHONY: redrive
redrive: ## Send them again, once the cause is mended
	$(call needs,dev)
	@eval "$$($(DEV) -m infra.local env)" && $(DEV) -m infra.redrive
