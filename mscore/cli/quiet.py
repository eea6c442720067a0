"""Which of Lightning's messages a run's user does not need."""

import logging
import warnings

_MESSAGES = (
    "GPU available:",
    "TPU available:",
    "HPU available:",
    "💡 Tip:",
    "`Trainer.fit` stopped:",  # the report says it
    "`weights_only` was not set",  # mscore always reads with weights_only=True
    "Restored all states",
)

_WARNINGS = (
    ".*does not have many workers.*",  # how data is loaded is the data module's choice
    ".*smaller than the logging interval.*",  # `log_freq` is ours, and rows are means
    ".*isinstance.treespec, LeafSpec.*",  # Lightning's affair with torch
    ".*You have overridden .* in `LightningModule`.*",  # ours, on purpose
    ".*exists and is not empty.*",  # the run's directory is made before it is trained in
)


def quiet_lightning() -> None:
    """Leave out what Lightning says in every run, and keep what it says about this one."""
    import lightning.pytorch  # noqa: F401  (it sets up its loggers when it is imported)

    for name in ("lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_worth_saying)
    for pattern in _WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)


def _worth_saying(record: logging.LogRecord) -> bool:
    return not record.getMessage().lstrip().startswith(_MESSAGES)
