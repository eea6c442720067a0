import torch
from torch import nn

from mscore import MinePolicy
from mscore.errors import MscoreError


class TinyPolicy(MinePolicy):
    """Two layers and no memory.

    Args:
        hiddim: width of the hidden layer.
    """

    provides_latents = frozenset({"pi_logits", "vpred"})

    def __init__(self, hiddim: int = 8, *, observation_space, action_space):
        super().__init__(hiddim, action_space)
        self.encoder = nn.Sequential(nn.Linear(observation_space.shape[0], hiddim), nn.Tanh())

    def initial_state(self, batch_size=None):
        return None

    def forward(self, input, state_in=None):
        hidden = self.encoder(input["image"].float())
        return {"pi_logits": self.pi_head(hidden), "vpred": self.value_head(hidden)}, None

    def load_weights(self, source):
        """A layout of this policy's own: one file with the encoder's tensors."""
        if not source.endswith(".tiny"):
            raise MscoreError(f"{source} is no .tiny file")
        self.encoder.load_state_dict(torch.load(source, weights_only=True))
