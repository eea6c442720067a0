"""Convolutions that train faster give what torch's own give, and leave everything else to them."""

import copy

import pytest
import torch
from mscore_plugin_rocket import create_backbone
from mscore_plugin_rocket.lean_convolutions import LeanDepthwiseConv, LeanPointwiseConv, lean_convolution
from torch import nn


def depthwise(channels=6, kernel=(5, 5), **arguments):
    return nn.Conv2d(channels, channels, kernel, groups=channels, bias=False, **arguments)


def gradients(layer, dtype, size=(9, 12)):
    torch.manual_seed(1)
    x = torch.randn(3, *size, layer.in_channels, dtype=dtype).permute(0, 3, 1, 2).requires_grad_()
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)).sum().backward()
    return [y.detach(), x.grad, *(one.grad for one in layer.parameters())]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "layer",
    [
        depthwise(padding=2),
        depthwise(padding=2, stride=2),
        depthwise(kernel=(7, 7), padding=3),
        depthwise(kernel=(3, 4), padding=(1, 2), stride=(1, 2)),
        depthwise(kernel=(1, 6)),
        nn.Conv2d(6, 10, 1, bias=False),
        nn.Conv2d(6, 10, 1),
    ],
)
def test_outputs_and_gradients(layer, dtype):
    torch.manual_seed(0)
    layer = copy.deepcopy(layer).to(dtype)
    nn.init.normal_(layer.weight)
    expected = gradients(layer, dtype)
    layer.zero_grad()
    kind = lean_convolution(layer)
    assert kind is (LeanPointwiseConv if layer.kernel_size == (1, 1) else LeanDepthwiseConv)
    layer.__class__ = kind
    for mine, theirs in zip(gradients(layer, dtype), expected, strict=True):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(mine, theirs, rtol=0, atol=scale * (1e-5 if dtype == torch.float32 else 1e-13))


@pytest.mark.parametrize(
    "layer",
    [
        depthwise(kernel=(3, 3)),
        depthwise(dilation=2),
        depthwise(padding="same"),
        depthwise(padding=2, padding_mode="reflect"),
        nn.Conv2d(6, 12, 5, groups=6, bias=False),
        nn.Conv2d(6, 6, 5),
        nn.Conv2d(6, 6, 1, stride=2),
        nn.Linear(6, 6),
    ],
)
def test_what_is_left_as_it_is(layer):
    assert lean_convolution(layer) is None


def test_those_of_a_backbone():
    network = create_backbone("efficientnet_b0", pretrained=False)
    kinds = [type(one) for one in network.modules() if isinstance(one, nn.Conv2d)]
    wide = [one for one in network.modules() if isinstance(one, nn.Conv2d) and one.kernel_size == (5, 5)]
    assert {type(one) for one in wide} == {LeanDepthwiseConv}
    assert kinds.count(LeanDepthwiseConv) == len(wide) == 9
    assert kinds.count(LeanPointwiseConv) > 50
    # Weights are laid out as everyone's, so that whoever saves them need not care.
    assert all(one.is_contiguous() for one in network.parameters())


def test_under_autocast_they_are_torchs_own():
    layer = depthwise(padding=2)
    layer.__class__ = LeanDepthwiseConv
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 6, 8, 8)).dtype == torch.bfloat16
