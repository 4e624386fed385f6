# What an operator does by hand, on the local AWS. Included by the Makefile.

.PHONY: failures
failures: ## List the events that failed for good, with their errors
	$(call needs,dev)
	$(LOCAL) failures

.PHONY: redrive
redrive: ## Send them again, once the cause is mended
	$(call needs,dev)
	$(LOCAL) redrive
