"""What the core itself registers: the offline trainer, and Lightning's and torch's own components.

It goes through the same hooks as any plugin, from static tables of names, so that listing it imports
neither torch nor Lightning.
"""

from mscore.hookspecs import hookimpl

_LIGHTNING_CALLBACKS = {
    "backbone-finetuning": "BackboneFinetuning",
    "device-stats-monitor": "DeviceStatsMonitor",
    "early-stopping": "EarlyStopping",
    "ema-weight-averaging": "EMAWeightAveraging",
    "gradient-accumulation-scheduler": "GradientAccumulationScheduler",
    "learning-rate-monitor": "LearningRateMonitor",
    "model-checkpoint": "ModelCheckpoint",
    "model-summary": "ModelSummary",
    "on-exception-checkpoint": "OnExceptionCheckpoint",
    "rich-model-summary": "RichModelSummary",
    "rich-progress-bar": "RichProgressBar",
    "stochastic-weight-averaging": "StochasticWeightAveraging",
    "timer": "Timer",
    "tqdm-progress-bar": "TQDMProgressBar",
}

_TORCH_OPTIMIZERS = [
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asgd",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
]

_TORCH_SCHEDULERS = {
    "constant": "ConstantLR",
    "cosine-annealing": "CosineAnnealingLR",
    "cosine-annealing-warm-restarts": "CosineAnnealingWarmRestarts",
    "cyclic": "CyclicLR",
    "exponential": "ExponentialLR",
    "linear": "LinearLR",
    "multi-step": "MultiStepLR",
    "one-cycle": "OneCycleLR",
    "polynomial": "PolynomialLR",
    "step": "StepLR",
}


@hookimpl
def mscore_trainers() -> dict[str, str]:
    """Register the offline trainer."""
    return {"offline": "mscore.offline.trainer:OfflineTrainer"}


@hookimpl
def mscore_environments() -> dict[str, str]:
    """Register gymnasium's own environments."""
    return {"gymnasium": "mscore.contracts.environment:GymnasiumEnvironment"}


@hookimpl
def mscore_callbacks() -> dict[str, str]:
    """Register Lightning's callbacks under kebab-case names."""
    return {name: f"lightning.pytorch.callbacks:{cls}" for name, cls in _LIGHTNING_CALLBACKS.items()}


@hookimpl
def mscore_loggers() -> dict[str, str]:
    """Register the CSV logger and Lightning's loggers."""
    return {
        "csv": "mscore.offline.csv_logger:CSVLogger",
        "tensorboard": "lightning.pytorch.loggers:TensorBoardLogger",
        "wandb": "lightning.pytorch.loggers:WandbLogger",
    }


@hookimpl
def mscore_optimizers() -> dict[str, str]:
    """Register torch's optimizers, with ``learning_rate`` for torch's ``lr``."""
    return {name: f"mscore.offline.optimizers:{name}" for name in _TORCH_OPTIMIZERS}


@hookimpl
def mscore_schedulers() -> dict[str, str]:
    """Register linear warm-up and torch's schedulers; all of them step with the optimizer."""
    table = {name: f"torch.optim.lr_scheduler:{cls}" for name, cls in _TORCH_SCHEDULERS.items()}
    return {"linear-warmup": "mscore.offline.optimizers:LinearWarmup", **table}
