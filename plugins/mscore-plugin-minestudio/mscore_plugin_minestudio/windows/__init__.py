"""Windows of episodes, and the batches that are made of them."""
