"""Layers that save memory in training give what timm's own give, and leave everything else to them."""

import copy
import pickle

import pytest
import timm
import torch
from mscore_plugin_rocket import create_backbone
from mscore_plugin_rocket.lean_layers import LeanBatchNormSiLU, LeanSqueezeExcite


@pytest.fixture
def both():
    """A network as timm makes it, and ours with the same weights, in float64."""
    torch.manual_seed(0)
    theirs = timm.create_model("test_efficientnet", features_only=True, in_chans=4).double().train()
    for parameter in theirs.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = create_backbone("test_efficientnet", pretrained=False, in_chans=4).double().train()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def pictures(dtype=torch.float64):
    random = torch.Generator().manual_seed(1)
    return torch.randn(3, 64, 64, 4, generator=random, dtype=torch.float64).to(dtype).permute(0, 3, 1, 2)


def test_outputs_gradients_and_statistics(both):
    ours, theirs = both
    assert sum(type(one) is LeanBatchNormSiLU for one in ours.modules()) == 8
    assert sum(type(one) is LeanSqueezeExcite for one in ours.modules()) == 2
    results = []
    for network in (ours, theirs):
        x = pictures().requires_grad_()
        maps = network(x)
        sum(one.square().mean() for one in maps).backward()
        results.append((maps, x.grad))
    for mine, expected in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(results[0][1], results[1][1])
    for (name, mine), (_, expected) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad, msg=name)
    for name, buffer in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], buffer, msg=name)


@torch.no_grad()
def test_evaluation_is_timms_own(both):
    ours, theirs = both
    torch.testing.assert_close(ours.eval()(pictures())[-1], theirs.eval()(pictures())[-1], rtol=0, atol=1e-12)


def test_other_types_and_layouts_are_left_to_timm(both):
    ours, theirs = (network.float() for network in both)
    x = pictures(torch.float32)
    torch.testing.assert_close(ours(x.contiguous())[-1], theirs(x.contiguous())[-1], rtol=1e-3, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        ours(x)[-1].float().sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in ours.parameters())


def test_they_can_be_copied_and_sent(both):
    ours, _ = both
    again = pickle.loads(pickle.dumps(copy.deepcopy(ours)))
    torch.testing.assert_close(again(pictures())[-1], ours(pictures())[-1])
