# ruff: noqa
# fmt: off
# MineStudio's guide "Offline Training": its template of an objective, its two built-in objectives as it prints them,
# and its example of a policy whose latents feed them, GROOT.
import torch
import lightning as L
from typing import Any, Dict, List, Optional
from lightning.pytorch.loggers import CSVLogger
from minestudio.data import MineDataModule
from minestudio.models import GrootPolicy, MinePolicy
from minestudio.offline import MineLightning
from minestudio.offline.utils import convert_to_normal
from minestudio.offline.mine_callbacks import BehaviorCloneCallback, KLDivergenceCallback, ObjectiveCallback

# the script's own arguments

groot_policy = GrootPolicy(
    backbone="vit_base_patch32_clip_224.openai",
    freeze_backbone=True,
    hiddim=1024,
    video_encoder_kwargs=dict(num_spatial_layers=2, num_temporal_layers=4, num_heads=8, dropout=0.1),
    image_encoder_kwargs=dict(num_layers=2, num_heads=8, dropout=0.1),
    decoder_kwargs=dict(num_heads=8, num_layers=4, timesteps=128, mem_len=128),
)
mine_lightning = MineLightning(
    mine_policy=groot_policy,
    log_freq=20,
    learning_rate=0.00004,
    weight_decay=0.001,
    warmup_steps=2000,
    callbacks=[
        BehaviorCloneCallback(weight=1.0),
        KLDivergenceCallback(weight=0.01),
    ],
    hyperparameters=convert_to_normal(args),
)
mine_data = MineDataModule(
    data_params=dict(
        mode='raw',
        dataset_dirs=[
            '/nfs-shared-2/data/contractors/dataset_10xx'
        ],
        frame_width=224,
        frame_height=224,
        win_len=128,
    ),
    batch_size=8,
    num_workers=8,
    prefetch_factor=4,
    split_ratio=0.9,
    shuffle_episodes=True,
    episode_continuous_batch=False,
)
L.Trainer(
    logger=CSVLogger("."),
    devices=8,
    precision='bf16',
    strategy='ddp_find_unused_parameters_true',
    gradient_clip_val=1.0,
).fit(model=mine_lightning, datamodule=mine_data, ckpt_path=ckpt_path)
