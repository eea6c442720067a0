"""The value head where VPT's record has no numbers: shapes, inverses, gradients, dtypes."""

import pytest
import torch

from mscore import make_value_head
from mscore.heads import EwmaNormalizer, ScaledMSEHead


def test_normalizing_is_undone():
    head = make_value_head(4).train()
    targets = 5 + 3 * torch.randn(8, 16, 1)
    for _ in range(3):
        head.normalize(targets)
    head.eval()
    torch.testing.assert_close(head.denormalize(head.normalize(targets)), targets, rtol=1e-4, atol=1e-4)


def test_the_first_update_already_normalizes():
    normalizer = EwmaNormalizer(beta=0.99999).train()
    out = normalizer(100 + 10 * torch.randn(16, 16, 1, dtype=torch.float64))
    # The debiased moments are the first batch's own (in float32: 1e4 next to a variance of 1e2).
    assert abs(out.mean().item()) < 0.1
    assert out.std().item() == pytest.approx(1, rel=0.1)


def test_before_any_update_the_least_variance_holds():
    mean, variance = EwmaNormalizer().statistics()
    assert mean.item() == 0
    assert variance.item() == pytest.approx(EwmaNormalizer.MIN_VARIANCE)


def test_statistics_are_never_trained():
    head = make_value_head(4).train()
    loss = head.loss(head(torch.randn(2, 3, 4)), torch.randn(2, 3, 1))
    loss.backward()
    trained = {name for name, p in head.named_parameters() if p.requires_grad}
    assert trained == {"linear.weight", "linear.bias"}
    assert all(p.grad is None for name, p in head.named_parameters() if name not in trained)


def test_several_values():
    head = ScaledMSEHead(4, size=3)
    assert head(torch.randn(2, 5, 4)).shape == (2, 5, 3)
    assert head.loss(head(torch.randn(2, 5, 4)), torch.randn(2, 5, 3), "none").shape == (2, 5, 3)
    assert head.denormalize(torch.randn(2, 5, 3)).shape == (2, 5, 3)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_bfloat16_autocast_computes_the_loss_in_float32(reduction):
    head = make_value_head(4).train()
    latent, target = torch.randn(2, 3, 4), torch.randn(2, 3, 1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(head(latent), target, reduction)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert torch.isfinite(head.linear.weight.grad).all()
