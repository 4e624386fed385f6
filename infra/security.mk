# What looks after security on its own.  Included by the Makefile.

.PHONY: lint-migrations
lint-migrations: ## Read the SQL of every revision for what is dangerous on a live database
	$(call needs,dev)
	@$(DEV) -m infra.lint_migrations
