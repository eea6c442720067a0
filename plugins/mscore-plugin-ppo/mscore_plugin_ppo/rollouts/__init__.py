"""Acting in environments: fragments of what happened, their advantages, and who collects them."""
