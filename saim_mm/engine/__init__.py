"""The runner and what it runs: optimisers, hooks, checks."""
