# ruff: noqa
# fmt: off
# The fine-tuning of VPT that MineStudio's tutorials point to: the form of its ROCKET-1 tutorial, the settings of its
# fine-tuning of the foundation model on the killing of animals.
import hydra
import lightning as L
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.callbacks import LearningRateMonitor
from minestudio.data import MineDataModule
from minestudio.models import load_vpt_policy, VPTPolicy
from minestudio.offline import MineLightning
from minestudio.offline.utils import convert_to_normal
from minestudio.offline.mine_callbacks import BehaviorCloneCallback
from minestudio.offline.lightning_callbacks import SmartCheckpointCallback, SpeedMonitorCallback

# the script's own arguments

vpt_policy = VPTPolicy.from_pretrained("CraftJarvis/MineStudio_VPT.foundation_model_2x")
mine_lightning = MineLightning(
    mine_policy=vpt_policy,
    log_freq=20,
    learning_rate=0.00004,
    weight_decay=0.000181,
    warmup_steps=2000,
    callbacks=[
        BehaviorCloneCallback(weight=0.01),
    ],
    hyperparameters=convert_to_normal(args),
)
mine_data = MineDataModule(
    data_params=dict(
        mode='event',
        dataset_dirs=[
            '/nfs-shared-2/data/contractors/dataset_10xx'
        ],
        frame_width=128,
        frame_height=128,
        win_len=128,
        event_regex='minecraft.kill_entity:.*',
        bias=16,
        min_nearby=64,
    ),
    batch_size=8,
    num_workers=8,
    prefetch_factor=4,
    split_ratio=0.9,
    shuffle_episodes=True,
    episode_continuous_batch=True,
)
L.Trainer(
    logger=WandbLogger(project="minestudio"),
    devices=8,
    precision='bf16',
    strategy='ddp_find_unused_parameters_true',
    use_distributed_sampler=False,
    gradient_clip_val=1.0,
    callbacks=[
        LearningRateMonitor(logging_interval='step'),
        SpeedMonitorCallback(),
        SmartCheckpointCallback(
            dirpath='./weights', filename='weight-{epoch}-{step}', save_top_k=-1,
            every_n_train_steps=2000, save_weights_only=True,
        ),
        SmartCheckpointCallback(
            dirpath='./checkpoints', filename='ckpt-{epoch}-{step}', save_top_k=1,
            every_n_train_steps=2001, save_weights_only=False,
        ),
    ]
).fit(model=mine_lightning, datamodule=mine_data, ckpt_path=ckpt_path)
