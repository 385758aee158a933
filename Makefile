# The table of contents: what one can do here. Every recipe is one line; what is longer is in scripts/.
.PHONY: help demo test check bench
.DEFAULT_GOAL := help

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

demo: ## build, push and run an example with everything made on this machine
	@scripts/demo

test: ## install what the tests need and run all of them
	@scripts/run-tests

check: ## what a change must pass: format, lints, tests, documentation, dependencies
	@scripts/check

bench: ## measure strake, docker and buildah (BENCH="--rounds 5 copy" for one line)
	@scripts/bench $(BENCH)
