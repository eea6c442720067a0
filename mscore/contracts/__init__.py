"""What a plugin implements: objective, policy, data module, environment, trainer, averaged weights."""
