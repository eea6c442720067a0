from contextlib import contextmanager

import lightning.pytorch as pl

from mscore import AVERAGED_WEIGHTS_KEY


class RunningMean(pl.Callback):
    """Keeps the mean of the weights before and after training: enough to see who finds averaged weights."""

    def __init__(self):
        self.first = None

    @property
    def has_averaged_weights(self):
        return self.first is not None

    @contextmanager
    def averaged_weights_in_place(self):
        yield

    def on_train_start(self, trainer, pl_module):
        self.first = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint[AVERAGED_WEIGHTS_KEY] = {
            name: (self.first[name] + tensor) / 2
            for name, tensor in checkpoint["state_dict"].items()
            if tensor.is_floating_point()
        }
