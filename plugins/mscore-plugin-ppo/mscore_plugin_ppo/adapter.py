"""The trainer ``ppo``: a run's adapter to PPO."""

import copy
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Le

from mscore import EvaluationCallback, Interrupted, MinePolicy, MscoreError, Run, Trainer, build
from mscore_plugin_ppo.evaluating import EvaluationMonitor
from mscore_plugin_ppo.monitors import LastCheckpoint, MetricsLog, ProgressLines, StopRequest
from mscore_plugin_ppo.trainers.ppo import Monitor, PPOTrainer

Positive = Annotated[int, Ge(1)]
Share = Annotated[float, Ge(0), Le(1)]


class PPO(Trainer):
    """Trains by proximal policy optimization (Schulman et al. 2017) in the run's environment.

    An iteration plays ``fragment_length`` steps in each of ``num_envs`` environments, as often as
    ``batch_size_per_gpu * batches_per_iteration`` fragments need, and learns from them
    ``epochs_per_iteration`` times. The run's objectives are added to PPO's loss on the same minibatches. A step
    is one step of one environment: ``max_steps``, ``evaluation.every_n_steps`` and the rows of metrics count
    these; ``log_freq`` counts iterations.

    Args:
        max_steps: steps after which training ends, at the end of an iteration.
        num_envs: environments that are stepped together; who acts in several processes shares them evenly.
        fragment_length: steps of a fragment, through which a policy with memory learns at once.
        env_processes: each environment in a process of its own, replaced when it dies, hangs or raises; for
            environments that are slow, or may fail.
        step_timeout: seconds that a step of an environment's process may take.
        start_timeout: seconds that starting an environment's process, or an actor, may take.
        max_restarts: replacements of one environment, or actor, in a row after which the run stops.
        batch_size_per_gpu: fragments of a minibatch; for a policy without memory as many frames as these
            have, shuffled across all fragments.
        batches_per_iteration: minibatches of an epoch.
        gradient_accumulation: minibatches whose gradients make one optimizer step.
        epochs_per_iteration: how often each fragment is learned from.
        discount: of rewards per step.
        gae_lambda: of generalized advantage estimation.
        context_length: steps that a policy reads at once; no gradient flows from one such window to another.
        ppo_clip: how far the probability ratio may move before its gradient ends.
        clip_vloss: clip the value estimate's move too.
        max_grad_norm: gradients are scaled down to this norm; 0 for never.
        ppo_vf_coef: weight of the value loss.
        ppo_policy_coef: weight of the policy loss.
        entropy_bonus_coef: weight of the entropy bonus.
        kl_divergence_coef_rho: weight of KL(policy || policy that training begins with); 0 for none.
            ``objectives: reference-kl`` takes any other reference.
        coef_rho_decay: ``kl_divergence_coef_rho`` is multiplied by it after every iteration.
        vf_warmup: iterations in which only the value estimates (and objectives) are trained.
        use_normalized_vf: estimate values in normalized units.
        zero_initial_vf: begin with value estimates of 0.
        normalize_advantage_full_batch: normalize advantages over an iteration, else over each minibatch.
        log_ratio_range: the logarithm of the probability ratio is cut off above this.
        max_reuse: iterations in which a fragment is learned from.
        max_staleness: versions of the policy that such a fragment may lag behind.
        num_readers: threads that gather minibatches ahead of time; 0 for none.
        num_cpus_per_reader: CPU cores that a reader may use.
        prefetch_batches: minibatches that the readers have ready, beside the next one.
        inference_batch_size_per_gpu: fragments of an older policy that are read at once.
        num_workers: processes of Ray Train's that train, each on its share of the fragments; 0 trains in the
            run's own.
        num_gpus_per_worker: GPUs of each of these processes, or of the run's own; 0 trains on the CPU.
        num_rollout_workers: actors on Ray that act, each in its share of the environments and for one of the
            training processes; 0 acts where it is trained.
        num_cpus_per_rollout_worker: CPU cores of each actor.
        num_gpus_per_rollout_worker: GPUs of each actor, or a part of one; 0 acts on the CPU.
        asynchronous: the actors play for the next iteration while the policy learns from this one.
        fragment_timeout: seconds that an actor may take for its fragments of ``fragment_length`` steps, after
            which it is replaced.
        ray_address: of a running Ray cluster; None for ``RAY_ADDRESS``, or else a Ray of this machine's own.
        checkpoint_every_n_iterations: iterations between two writes of ``checkpoints/last.ckpt``, from which a
            run resumes; it is also written at the end and when the run is asked to stop.
        num_threads: threads that torch computes with; None leaves that as it is. Small policies are fastest
            with one.
    """

    sections: ClassVar[frozenset[str]] = frozenset({"objectives", "optimizer", "scheduler"})
    honours_callbacks: ClassVar[bool] = False
    run_length: ClassVar[frozenset[str]] = frozenset({"max_steps"})
    placement: ClassVar[frozenset[str]] = frozenset(
        {
            *("num_workers", "num_gpus_per_worker", "num_threads", "num_rollout_workers", "ray_address"),
            *("num_cpus_per_rollout_worker", "num_gpus_per_rollout_worker", "fragment_timeout"),
        }
    )
    rehearsal: ClassVar[dict[str, Any]] = {"max_steps": 1}

    def __init__(
        self,
        max_steps: Positive,
        num_envs: Positive = 8,
        fragment_length: Positive = 128,
        env_processes: bool = False,
        step_timeout: Annotated[float, Gt(0)] = 60.0,
        start_timeout: Annotated[float, Gt(0)] = 120.0,
        max_restarts: Annotated[int, Ge(0)] = 5,
        batch_size_per_gpu: Positive = 2,
        batches_per_iteration: Positive = 4,
        gradient_accumulation: Positive = 1,
        epochs_per_iteration: Positive = 4,
        discount: Share = 0.99,
        gae_lambda: Share = 0.95,
        context_length: Positive = 256,
        ppo_clip: Annotated[float, Gt(0)] = 0.2,
        clip_vloss: bool = False,
        max_grad_norm: Annotated[float, Ge(0)] = 0.5,
        ppo_vf_coef: Annotated[float, Ge(0)] = 0.5,
        ppo_policy_coef: Annotated[float, Ge(0)] = 1.0,
        entropy_bonus_coef: Annotated[float, Ge(0)] = 0.0,
        kl_divergence_coef_rho: Annotated[float, Ge(0)] = 0.0,
        coef_rho_decay: Share = 1.0,
        vf_warmup: Annotated[int, Ge(0)] = 0,
        use_normalized_vf: bool = False,
        zero_initial_vf: bool = False,
        normalize_advantage_full_batch: bool = True,
        log_ratio_range: Annotated[float, Gt(0)] = 50.0,
        max_reuse: Positive = 1,
        max_staleness: Annotated[int, Ge(0)] = 2,
        num_readers: Annotated[int, Ge(0)] = 0,
        num_cpus_per_reader: Annotated[float, Gt(0)] = 1.0,
        prefetch_batches: Annotated[int, Ge(0)] = 2,
        inference_batch_size_per_gpu: Positive = 8,
        num_workers: Annotated[int, Ge(0)] = 0,
        num_gpus_per_worker: Annotated[float, Ge(0)] = 0.0,
        num_rollout_workers: Annotated[int, Ge(0)] = 0,
        num_cpus_per_rollout_worker: Annotated[float, Gt(0)] = 1.0,
        num_gpus_per_rollout_worker: Annotated[float, Ge(0)] = 0.0,
        asynchronous: bool = False,
        fragment_timeout: Annotated[float, Gt(0)] = 300.0,
        ray_address: str | None = None,
        checkpoint_every_n_iterations: Positive = 20,
        num_threads: Positive | None = 1,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.max_steps: int = arguments.pop("max_steps")
        self.checkpoint_every_n_iterations: int = arguments.pop("checkpoint_every_n_iterations")
        self.num_threads: int | None = arguments.pop("num_threads")
        self.arguments = arguments

    def fit(self, run: Run) -> None:
        """Train the run to its end.

        Raises:
            Interrupted: the process was asked to stop (SIGTERM or Ctrl-C); ``last.ckpt`` is up to date.
            MscoreError: the run has no environment, Ray is asked for and not there, or training cannot go on.
        """
        if run.environment is None:
            raise MscoreError("the trainer ppo plays in an environment: the config needs an `environment:` section")
        stop = StopRequest()
        elsewhere = bool(self.arguments["num_workers"])
        trainer = _RunTrainer(
            run,
            self.num_threads,
            max_env_steps=self.max_steps,
            whole_config=run.hyperparameters,
            objectives=run.objectives,
            monitors=[*self._monitors(run), *([] if elsewhere else [stop])],
            resume=run.resume_from,
            seed=run.config.seed,
            storage_path=run.directory,
            **self.arguments,
        )
        if elsewhere:
            stop.on_start(trainer)  # signals arrive in this process, which tells those that train
        try:
            trainer.fit()
        finally:
            stop.close()
        if elsewhere:
            run.policy.load_state_dict(trainer.policy.state_dict())
        if stop.asked:
            raise Interrupted(f"the run was asked to stop at step {trainer.env_steps}")

    def _monitors(self, run: Run) -> list[Monitor]:
        monitors: list[Monitor] = [MetricsLog(run.loggers, run.hyperparameters, run.config.log_freq)]
        if run.config.evaluation is not None and run.environment is not None:
            callback = EvaluationCallback(run.environment, run.config.evaluation, run.directory)
            monitors.append(EvaluationMonitor(callback, run.loggers, run.resume_from is not None))
        last = LastCheckpoint(run.checkpoints / "last.ckpt", self.checkpoint_every_n_iterations)
        return [*monitors, last, ProgressLines()]


class _RunTrainer(PPOTrainer):
    """PPO on a run's own policy, with the optimizer and scheduler of its config."""

    def __init__(self, run: Run, num_threads: int | None, **arguments: Any) -> None:
        super().__init__(None, _Copies(run.policy), run.environment, **arguments)
        self.run = run
        self.num_threads = num_threads

    def _train_func(self, config: dict[str, Any]) -> Any:
        threads = torch.get_num_threads()
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        try:
            return super()._train_func(config)
        finally:
            torch.set_num_threads(threads)

    def setup_model_and_optimizer(self) -> tuple[MinePolicy, torch.optim.Optimizer]:
        """The run's policy, and its config's optimizer over the policy's and the objectives' parameters."""
        policy = self.run.policy.to(self.device)
        modules = [policy, *(one for one in self.objectives.values() if isinstance(one, torch.nn.Module))]
        parameters = [one for module in modules for one in module.to(self.device).parameters() if one.requires_grad]
        optimizer: torch.optim.Optimizer = build(self.run.config.optimizer, injected={"params": parameters})
        self.scheduler = build(self.run.config.scheduler, injected={"optimizer": optimizer})
        return policy, optimizer


class _Copies:
    """Makes copies of a policy; wherever it is sent to, the policy is on the CPU."""

    def __init__(self, policy: MinePolicy) -> None:
        self.policy = policy

    def __call__(self) -> MinePolicy:
        return copy.deepcopy(self.policy)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Copies, (self().cpu(),)
