from mscore import ObjectiveCallback


class Imitate(ObjectiveCallback):
    """Cross-entropy with the demonstrated action.

    Args:
        weight: its factor.
    """

    needs_latents = frozenset({"pi_logits"})

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        logprob = mine_policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])
        return {"loss": -self.weight * logprob.mean()}
