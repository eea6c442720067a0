"""Looking into a dataset: what it holds, and what is wrong with it."""
