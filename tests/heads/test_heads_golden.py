"""Heads against VPT's own, from MineStudio: log-probabilities, seeded samples, divergences, values."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mscore import make_action_head, make_value_head, minecraft_action_space
from mscore.heads import EwmaNormalizer

WIDTH = 64
GOLDEN = Path(__file__).parents[1] / "golden" / "vpt_heads.npz"
TOLERANCE = {"rtol": 1e-5, "atol": 2e-5}


@pytest.fixture(scope="module")
def golden():
    arrays = np.load(GOLDEN)

    def read(name):
        if name in arrays.files:
            return torch.from_numpy(arrays[name])
        parts = {key: f"{name}/{key}" for key in ("buttons", "camera")}
        return {key: torch.from_numpy(arrays[part]) for key, part in parts.items()}

    return read


@pytest.fixture(scope="module")
def heads():
    return {p: make_action_head(minecraft_action_space(), WIDTH, 2.0, p) for p in (None, 0.85)}


@pytest.mark.parametrize("chunk", [0, 1, 2])
class TestChunks:
    def test_logprob_and_entropy(self, golden, heads, chunk):
        logits, action, head = golden(f"chunk{chunk}/pi_logits"), golden(f"chunk{chunk}/action"), heads[None]
        torch.testing.assert_close(head.logprob(action, logits), golden(f"head/{chunk}/logprob"), **TOLERANCE)
        torch.testing.assert_close(head.entropy(logits), golden(f"head/{chunk}/entropy"), **TOLERANCE)
        for what in ("logprob", "entropy"):
            arguments = (action, logits) if what == "logprob" else (logits,)
            parts = getattr(head, what)(*arguments, return_dict=True)
            torch.testing.assert_close(parts, golden(f"head/{chunk}/{what}_dict"), **TOLERANCE)

    def test_the_mode(self, golden, heads, chunk):
        expected = golden(f"head/{chunk}/deterministic")
        for head in heads.values():
            self.check(head.sample(golden(f"chunk{chunk}/pi_logits"), deterministic=True), expected)

    @pytest.mark.parametrize("seed", range(1000, 1004))
    @pytest.mark.parametrize(("nucleus_prob", "name"), [(None, "vanilla"), (0.85, "nucleus085")])
    def test_seeded_samples(self, golden, heads, chunk, seed, nucleus_prob, name):
        torch.manual_seed(seed)
        action = heads[nucleus_prob].sample(golden(f"chunk{chunk}/pi_logits"))
        self.check(action, golden(f"head/{chunk}/{name}_seed{seed}"))

    @staticmethod
    def check(action, expected):
        assert list(action) == ["buttons", "camera"]
        for key, value in action.items():
            assert torch.equal(value, expected[key]), key


def test_divergence(golden, heads):
    first, second = golden("chunk0/pi_logits"), golden("chunk1/pi_logits")
    head = heads[None]
    torch.testing.assert_close(head.kl_divergence(first, second), golden("head/kl_0_1"), **TOLERANCE)
    torch.testing.assert_close(head.kl_divergence(second, first), golden("head/kl_1_0"), **TOLERANCE)
    camera = dict(head.items())["camera"].kl_divergence(first["camera"], second["camera"])
    torch.testing.assert_close(camera, golden("head/kl_camera_0_1"), **TOLERANCE)


def test_masked_logits(golden):
    head = make_action_head(minecraft_action_space()["camera"], WIDTH, temperature=2.0)
    head.load_state_dict(
        {f"linear_layer.{name}": golden(f"sd/pi_head.camera.linear_layer.{name}") for name in ("weight", "bias")}
    )
    logits = head(golden("head/mask/latent"), golden("head/mask/mask"))
    torch.testing.assert_close(logits, golden("head/mask/camera_logits"), **TOLERANCE)


class TestValue:
    @pytest.fixture
    def head(self, golden):
        head = make_value_head(WIDTH)
        head.load_state_dict({name: golden(f"sd/value_head.{name}") for name in head.state_dict()})
        return head

    def test_losses_and_statistics_in_training(self, golden, head):
        prediction = golden("chunk0/vpred")
        torch.testing.assert_close(head.denormalize(prediction), golden("value/denorm_before"), **TOLERANCE)
        head.train()
        for i in range(3):
            loss = head.loss(prediction, golden(f"value/target/{i}"), reduction="none")
            torch.testing.assert_close(loss, golden(f"value/{i}/loss_none"), **TOLERANCE)
            for name in ("running_mean", "running_mean_sq", "debiasing_term"):
                torch.testing.assert_close(
                    getattr(head.normalizer, name).detach(), golden(f"value/{i}/stats/{name}"), **TOLERANCE
                )
            torch.testing.assert_close(
                head.denormalize(prediction).detach(), golden(f"value/{i}/denorm_after"), **TOLERANCE
            )

    def test_evaluation_leaves_the_statistics_alone(self, golden, head):
        head.train()
        for i in range(3):
            head.loss(golden("chunk0/vpred"), golden(f"value/target/{i}"))
        head.eval()
        before = {name: value.clone() for name, value in head.state_dict().items()}
        target = golden("value/target/0")
        torch.testing.assert_close(head.normalize(target).detach(), golden("value/eval_normalize"), **TOLERANCE)
        loss = head.loss(golden("chunk0/vpred"), target).detach()
        torch.testing.assert_close(loss, golden("value/eval_loss_mean"), **TOLERANCE)
        assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())

    def test_a_faster_normalizer(self, golden):
        normalizer = EwmaNormalizer(beta=0.9).train()
        for i in range(3):
            out = normalizer(golden(f"value/target/{i}")).detach()
            torch.testing.assert_close(out, golden(f"value/ewma_beta0.9/out/{i}"), **TOLERANCE)
        for name in ("running_mean", "running_mean_sq", "debiasing_term"):
            torch.testing.assert_close(
                getattr(normalizer, name).detach(), golden(f"value/ewma_beta0.9/stats/{name}"), **TOLERANCE
            )
