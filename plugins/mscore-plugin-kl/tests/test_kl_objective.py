"""KL between latent Gaussians: MineStudio's numbers, float64 as reference, masks, dtypes, gradients."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mscore_plugin_kl import KLDivergenceCallback
from torch.distributions import Normal, kl_divergence

GOLDEN = Path(__file__).parent / "golden" / "kl_groot.npz"


def run(objective, posterior, prior, mask=None):
    latents = {
        "posterior_dist": {"mu": posterior[0], "log_var": posterior[1]},
        "prior_dist": {"mu": prior[0], "log_var": prior[1]},
    }
    return objective({} if mask is None else {"mask": mask}, 0, "train", latents, None)


def exact(q_mu, q_log_var, p_mu, p_log_var):
    """The closed form in float64, per dimension."""
    q_mu, q_log_var, p_mu, p_log_var = (x.double() for x in (q_mu, q_log_var, p_mu, p_log_var))
    difference = q_log_var - p_log_var
    return 0.5 * (torch.expm1(difference) - difference + (q_mu - p_mu).square() * (-p_log_var).exp())


@pytest.mark.parametrize("chunk", ["chunk0", "chunk1", "chunk2"])
def test_numbers_are_minestudios(chunk):
    golden = np.load(GOLDEN)
    posterior, prior = (
        [torch.from_numpy(golden[f"{chunk}/{which}/{what}"]) for what in ("mu", "log_var")]
        for which in ("posterior", "prior")
    )
    objective = KLDivergenceCallback(weight=0.01)
    per_item = objective.kl_divergence(*posterior, *prior)
    torch.testing.assert_close(per_item, torch.from_numpy(golden[f"{chunk}/kl_per_item"]), rtol=1e-5, atol=2e-5)
    result = run(objective, posterior, prior)
    for key in ("loss", "kl_div", "kl_weight"):
        assert float(result[key]) == pytest.approx(float(golden[f"{chunk}/kl_w0.01/{key}"]), rel=1e-5)


def test_by_hand():
    # q = N(1, 4), p = N(0, 1) in one dimension, q = p in the other: 0.5 * (4 - 1 - log 4 + 1) nats.
    q = torch.tensor([[1.0, 3.0]]), torch.tensor([[4.0, 2.0]]).log()
    p = torch.tensor([[0.0, 3.0]]), torch.tensor([[1.0, 2.0]]).log()
    result = run(KLDivergenceCallback(weight=0.1), q, p)
    expected = 0.5 * (4 - math.log(4))
    assert result["kl_div"].item() == pytest.approx(expected, rel=1e-6)
    assert result["loss"].item() == pytest.approx(0.1 * expected, rel=1e-6)
    assert result["kl_weight"] == 0.1


def test_equal_distributions_have_no_divergence_and_no_gradient():
    mu = torch.randn(4, 8, requires_grad=True)
    log_var = torch.randn(4, 8, requires_grad=True)
    result = run(KLDivergenceCallback(), (mu, log_var), (mu.detach(), log_var.detach()))
    result["loss"].backward()
    assert result["kl_div"].item() == 0
    assert mu.grad.abs().max() == 0
    assert log_var.grad.abs().max() == 0


@pytest.mark.parametrize("shape", [(5, 7), (5, 3, 7)])
def test_agrees_with_torch_distributions(shape):
    torch.manual_seed(0)
    q_mu, q_log_var, p_mu, p_log_var = torch.randn(4, *shape)
    ours = KLDivergenceCallback().kl_divergence(q_mu, q_log_var, p_mu, p_log_var)
    q, p = Normal(q_mu, (q_log_var / 2).exp()), Normal(p_mu, (p_log_var / 2).exp())
    assert ours.shape == shape[:-1]
    torch.testing.assert_close(ours, kl_divergence(q, p).sum(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [-160.0, -80.0, -20.0, 0.0, 20.0, 80.0, 160.0])
def test_small_and_large_variances_agree_with_float64(level, dtype):
    torch.manual_seed(0)
    p_log_var = (level + torch.randn(64, 1)).to(dtype)
    q_log_var = (p_log_var.float() + torch.randn(64, 1)).to(dtype)
    p_mu = torch.randn(64, 1).to(dtype)
    # Means as far apart as a few deviations of p, where the divergence is finite.
    q_mu = (p_mu.float() + (p_log_var.float() / 2).exp() * torch.randn(64, 1)).to(dtype)
    inputs = [x.requires_grad_() for x in (q_mu, q_log_var, p_mu, p_log_var)]
    ours = KLDivergenceCallback().kl_divergence(*inputs)
    theirs = exact(*inputs).sum(-1)
    finite = theirs < torch.finfo(torch.float32).max
    assert finite.any()
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours[finite].double(), theirs[finite], rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(ours[finite].sum(), inputs)
    for ours_grad, theirs_grad in zip(gradients, torch.autograd.grad(theirs[finite].sum(), inputs), strict=True):
        assert ours_grad.dtype == dtype
        representable = theirs_grad.double().abs() < 1e36
        torch.testing.assert_close(
            ours_grad[representable].double(), theirs_grad[representable].double(), rtol=1e-2, atol=1e-4
        )


@pytest.mark.parametrize("p_log_var", [-1000.0, -400.0, -200.0, -90.0, 90.0, 200.0, 1000.0])
def test_equal_means_stay_finite_at_any_variance(p_log_var):
    mu = torch.ones(1, 1, requires_grad=True)
    log_var = torch.full((1, 1), p_log_var, requires_grad=True)
    divergence = KLDivergenceCallback().kl_divergence(mu, log_var + 1.0, mu.detach(), log_var)
    assert divergence.item() == pytest.approx(0.5 * (math.e - 2), rel=1e-3)
    divergence.backward()
    assert mu.grad.item() == 0
    assert math.isfinite(log_var.grad.item())


def test_nearly_equal_variances_keep_their_digits():
    # exp(d) - 1 - d in float32 gives 0 or noise here; the true value is d^2 / 4.
    q_log_var = torch.tensor([[2e-4]])
    zero = torch.zeros(1, 1)
    ours = KLDivergenceCallback().kl_divergence(zero, q_log_var, zero, zero)
    assert ours.item() == pytest.approx(1e-8, rel=1e-2)


def test_bfloat16_autocast_computes_in_float32():
    torch.manual_seed(0)
    q_mu, q_log_var, p_mu, p_log_var = torch.randn(4, 3, 16)
    plain = KLDivergenceCallback().kl_divergence(q_mu, q_log_var, p_mu, p_log_var)
    with torch.autocast("cpu", torch.bfloat16):
        under = KLDivergenceCallback().kl_divergence(q_mu, q_log_var, p_mu, p_log_var)
    torch.testing.assert_close(under, plain, rtol=0, atol=0)


class TestMask:
    q = torch.tensor([[[1.0], [2.0], [9.0]], [[3.0], [9.0], [9.0]], [[9.0], [9.0], [9.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()

    def test_frames_that_are_not_valid_do_not_count(self):
        zero = torch.zeros_like(self.q)
        result = run(KLDivergenceCallback(), (self.q, zero), (zero, zero), self.mask)
        assert result["kl_div"].item() == pytest.approx(0.5 * (1 + 4 + 9) / 3)

    def test_rows_without_a_valid_frame_do_not_count(self):
        q = self.q[:, 0]
        zero = torch.zeros_like(q)
        result = run(KLDivergenceCallback(), (q, zero), (zero, zero), self.mask)
        assert result["kl_div"].item() == pytest.approx(0.5 * (1 + 9) / 2)

    @pytest.mark.parametrize("frames", [True, False])
    def test_nothing_valid_gives_zero_with_a_graph(self, frames):
        q = (self.q if frames else self.q[:, 0]).clone().requires_grad_()
        zero = torch.zeros_like(q)
        result = run(KLDivergenceCallback(), (q, zero), (zero, zero), torch.zeros_like(self.mask))
        assert result["loss"].item() == 0
        result["loss"].backward()
        assert q.grad.abs().max() == 0


def test_only_the_loss_carries_a_gradient():
    mu = torch.randn(2, 3, requires_grad=True)
    zero = torch.zeros(2, 3)
    result = run(KLDivergenceCallback(), (mu, zero), (zero, zero))
    assert result["loss"].requires_grad
    assert not result["kl_div"].requires_grad
    result["loss"].backward()
    torch.testing.assert_close(mu.grad, mu.detach() / 2)
