# ruff: noqa
# fmt: off
# MineStudio's tutorial "Pre-Training ROCKET-1 from Scratch", as a reader puts it together: its pieces in their
# order. What it takes for granted (args, ckpt_path, episode_continuous_batch) is set where the mark says so.
import hydra
import torch
import torch.nn as nn
import lightning as L
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.callbacks import LearningRateMonitor
from einops import rearrange
from typing import Dict, Any, Tuple
from minestudio.data import MineDataModule
from minestudio.models import RocketPolicy
from minestudio.offline import MineLightning
from minestudio.offline.utils import convert_to_normal
from minestudio.offline.mine_callbacks import BehaviorCloneCallback
from minestudio.offline.lightning_callbacks import SmartCheckpointCallback, SpeedMonitorCallback, EMA

# the script's own arguments

rocket_policy = RocketPolicy(
    backbone="efficientnet_b0.ra_in1k",
    hiddim=1024,
    num_heads=8,
    num_layers=4,
    timesteps=128,
    mem_len=128,
)
mine_lightning = MineLightning(
    mine_policy=rocket_policy,
    log_freq=20,
    learning_rate=0.00004,
    weight_decay=0.001,
    warmup_steps=2000,
    callbacks=[
        BehaviorCloneCallback(weight=args.objective_weight),
    ],
    hyperparameters=convert_to_normal(args),
)
mine_data = MineDataModule(
    data_params=dict(
        mode='raw',
        dataset_dirs=[
            '/nfs-shared-2/data/contractors/dataset_6xx',
            '/nfs-shared-2/data/contractors/dataset_7xx',
            '/nfs-shared-2/data/contractors/dataset_8xx',
            '/nfs-shared-2/data/contractors/dataset_9xx',
            '/nfs-shared-2/data/contractors/dataset_10xx'
        ],
        frame_width=224,
        frame_height=224,
        win_len=128,
        enable_segment=True,
    ),
    batch_size=8,
    num_workers=8,
    prefetch_factor=4,
    split_ratio=0.95,
    shuffle_episodes=True,
    episode_continuous_batch=True,
)
callbacks=[
    LearningRateMonitor(logging_interval='step'),
    SpeedMonitorCallback(),
    SmartCheckpointCallback(
        dirpath='./weights', filename='weight-{epoch}-{step}', save_top_k=-1,
        every_n_train_steps=args.save_freq, save_weights_only=True,
    ),
    SmartCheckpointCallback(
        dirpath='./checkpoints', filename='ckpt-{epoch}-{step}', save_top_k=1,
        every_n_train_steps=args.save_freq+1, save_weights_only=False,
    ),
    EMA(
        decay=0.999,
        validate_original_weights=True,
        every_n_steps=8,
        cpu_offload=False,
    )
]
L.Trainer(
    logger=WandbLogger(project="minestudio"),
    devices=8,
    precision='bf16',
    strategy='ddp_find_unused_parameters_true',
    use_distributed_sampler=not episode_continuous_batch,
    callbacks=callbacks,
    gradient_clip_val=1.0,
).fit(
    model=mine_lightning,
    datamodule=mine_data,
    ckpt_path=ckpt_path,
)
