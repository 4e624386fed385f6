# Faults on real servers, until nobody is fooled. Included by the Makefile.

.PHONY: chaos
chaos: ## Kill, cut, block and crowd the function many times, and print what was lost (5 min)
	$(call needs,dev)
	@$(DEV) -m tests.chaos
