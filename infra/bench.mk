# The function against floors and peers.  Included by the Makefile.

.PHONY: bench
bench: ## Measure the function against floors and peers, side by side; writes build/benchmarks/result.json
	$(call needs,dev lambda localstack)
	@$(DEV) -m tests.benchmarks
