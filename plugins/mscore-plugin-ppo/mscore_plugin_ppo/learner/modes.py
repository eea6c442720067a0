"""The mode in which a policy learns."""

from torch import nn

from mscore import MinePolicy


def learn_as_it_acts(policy: MinePolicy) -> None:
    """Put a policy that is about to learn into the mode in which it acts.

    The loss compares the probability that an action has with the one that it had. With dropout, the statistics of
    a batch, or a goal that is drawn anew (GROOT), these differ before anything was learned.
    """
    policy.eval()
    for module in policy.modules():
        # On a GPU a recurrent layer goes backward in this mode alone; without dropout it computes the same.
        if isinstance(module, nn.RNNBase) and not module.dropout:
            module.train()
