"""An objective with a policy and batches that it can be evaluated on."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import torch
from gymnasium import spaces

from mscore import Memory, minecraft_action_space
from mscore.testing.checks import CheckFailed, CheckSkipped, Unusable
from mscore.testing.subjects import ComponentSubject
from mscore.testing.tiny import TinyPolicy, tiny_action_space, tiny_batch
from mscore.testing.trees import copied, difference

ROWS, STEPS = 4, 5


def candidate_spaces() -> list[gymnasium.Space[Any]]:
    """Action spaces that are tried in turn, for objectives that are made for one kind of them."""
    nested = spaces.Dict(
        {
            "move": spaces.Discrete(3),
            "look": spaces.Dict({"turn": spaces.Box(-1.0, 1.0, (2,)), "up": spaces.Discrete(2)}),
        }
    )
    return [tiny_action_space(), minecraft_action_space(), nested, spaces.Box(-1.0, 1.0, (2,))]


class ObjectiveCase:
    """An objective's surroundings in the checks: the first action space that it works with decides.

    Raises:
        CheckSkipped: the kit's policy has not the latents that it needs.
        Unusable: it raises with every action space.
    """

    def __init__(self, subject: ComponentSubject) -> None:
        self.subject = subject
        self._refuse_unknown_latents()
        sample = subject.sample
        given = sample.action_space is not None or sample.policy is not None
        errors: list[str] = []
        for space in [sample.action_space] if given else candidate_spaces():
            self.space = space
            try:
                self.metrics(self.make(), self.batch())
            except (CheckSkipped, CheckFailed):
                raise
            except Exception as error:
                text = " ".join(str(error).split()) or "no message"
                name = "the sample's policy" if space is None else str(space)
                errors.append(f"{type(error).__name__}: {text} (with {name})")
            else:
                return
        raise Unusable("metrics", f"it raised {errors[0]}")

    def _refuse_unknown_latents(self) -> None:
        if self.subject.sample.policy is not None:
            return
        needed = set(getattr(self.subject.target, "needs_latents", ()))
        lacking = needed - set(TinyPolicy(kl_latents=True).provides_latents or ())
        if lacking:
            raise CheckSkipped(
                f"it needs the latents {', '.join(sorted(lacking))}; give a policy that returns them: "
                "Sample(policy=lambda: …)"
            )

    def make(self, seed: int = 0) -> Any:
        """A fresh objective."""
        torch.manual_seed(seed)
        return self.subject.build(action_space=self.space or self.policy().action_space)

    def policy(self) -> Any:
        """The policy, always with the same weights."""
        torch.manual_seed(1)
        if self.subject.sample.policy is not None:
            return self.subject.sample.policy()
        return TinyPolicy(self.space, kl_latents=True, observation_space=self.subject.sample.observation_space)

    def batch(self, start: int = 0, seed: int = 0) -> dict[str, Any]:
        """A batch of :data:`ROWS` windows, some of whose frames are not valid."""
        make = self.subject.sample.batch or tiny_batch
        space = self.space or self.policy().action_space
        given = {"observation_space": self.subject.sample.observation_space}
        batch = make(batch_size=ROWS, length=STEPS, action_space=space, seed=seed, start=start, **given)
        batch["mask"][1, 3:] = False
        batch["mask"][3, :] = False
        return batch

    def evaluate(
        self, objective: Any, batch: Mapping[str, Any], policy: Any, step_name: str = "train", seed: int = 2
    ) -> Mapping[str, Any]:
        """What the objective reports for one step, taken as the trainer takes it."""
        torch.manual_seed(seed)
        given = objective.before_step(copied(batch), 0, step_name)
        given, state = Memory().prepare(given, policy)
        latents, _ = policy(given, state)
        result: Mapping[str, Any] = objective(given, 0, step_name, latents, policy)
        return result

    def metrics(self, objective: Any, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the objective reports for one step of a fresh policy."""
        return self.evaluate(objective, batch, self.policy())

    def refuse_chance(self) -> None:
        """Do without checks that compare two evaluations, where two that should be alike are not.

        Raises:
            Unusable: two fresh objectives report different things for one batch under one seed.
        """
        gap = difference(self.metrics(self.make(), self.batch()), self.metrics(self.make(), self.batch()))
        if gap:
            raise Unusable("deterministic", gap)

    def loss_and_gradients(self, batch: Mapping[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a fresh objective, and its gradients by parameter of the policy.

        Raises:
            CheckSkipped: the objective has no loss.
            Unusable: the loss is none that can be trained.
        """
        policy = self.policy()
        loss = loss_of(self.evaluate(self.make(), batch, policy))
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            raise Unusable("loss", "its loss is no tensor with a graph")
        loss.reshape(()).backward()  # type: ignore[no-untyped-call]
        gradients = {name: one.grad for name, one in policy.named_parameters() if one.grad is not None}
        return loss.detach(), gradients


def loss_of(metrics: Mapping[str, Any]) -> Any:
    """The term that is trained.

    Raises:
        CheckSkipped: there is none.
    """
    if "loss" not in metrics:
        raise CheckSkipped("it has no `loss`: it only measures")
    return metrics["loss"]
