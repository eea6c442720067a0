"""Learning from fragments: the loss, the minibatches, and one update after another."""
