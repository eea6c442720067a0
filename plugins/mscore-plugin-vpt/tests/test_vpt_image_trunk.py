"""MineStudio's image trunk and the network around it, and ours, with the same weights and inputs."""

import pytest
import torch
from mscore_plugin_vpt import ImpalaCNN, VPTNetwork, image_trunk

from mscore import MscoreError

CLOSE = {"atol": 2e-5, "rtol": 0.0}
VARIANTS = ["foundation", "plain", "bn", "gn2"]


@pytest.fixture(scope="module")
def record(golden):
    return golden("image_trunk.npz")


def network(record, variant):
    net = VPTNetwork(**record.settings(f"{variant}/cfg"))
    state = {name.removeprefix("net."): value for name, value in record.under(f"{variant}/sd/").items()}
    net.load_state_dict(state)
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_trunk(record, variant, monkeypatch):
    net = network(record, variant)
    pictures = net.img_preprocess(record[f"{variant}/image"])
    for at_once in (image_trunk.BYTES_AT_ONCE, 1):
        monkeypatch.setattr(image_trunk, "BYTES_AT_ONCE", at_once)
        for part, name in ((net.img_process.cnn, "cnn"), (net.img_process, "img_process")):
            expected = record[f"{variant}/{name}"]
            scale = max(1.0, expected.abs().max().item())  # without normalization they are in the hundreds
            torch.testing.assert_close(part(pictures), expected, atol=2e-5 * scale, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_network_with_a_start_within_the_window(record, variant, dtype):
    net, first = network(record, variant), record[f"{variant}/first"]
    (latent, same), state = net({"image": record[f"{variant}/image"].to(dtype)}, net.initial_state(2), {"first": first})
    assert latent is same
    torch.testing.assert_close(latent, record[f"{variant}/latent"], **CLOSE)
    for mine, theirs in zip(state, record.list(f"{variant}/state_out/"), strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


@pytest.mark.parametrize("norm", [{"group_norm_groups": 1}, {}])
def test_a_few_pictures_at_a_time_train_the_same(monkeypatch, norm):
    torch.manual_seed(0)
    trunk = ImpalaCNN((16, 16, 3), [4, 4], 8, init_norm_kwargs=norm).train()
    pictures, found = torch.rand(2, 3, 16, 16, 3), []
    for at_once in (image_trunk.BYTES_AT_ONCE, 1):
        monkeypatch.setattr(image_trunk, "BYTES_AT_ONCE", at_once)
        trunk.zero_grad()
        y = trunk(pictures)
        y.square().sum().backward()
        found.append([y.detach(), *(one.grad.clone() for one in trunk.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * max(1.0, other.abs().max().item()), rtol=0)


def test_batch_statistics_are_those_of_all_pictures(monkeypatch):
    monkeypatch.setattr(image_trunk, "BYTES_AT_ONCE", 1)
    torch.manual_seed(0)
    trunk = ImpalaCNN((16, 16, 3), [4], 8, init_norm_kwargs={"batch_norm": True}, first_conv_norm=True).train()
    pictures = torch.rand(2, 3, 16, 16, 3)
    trunk(pictures)
    expected = 0.1 * pictures.flatten(0, 3).mean(0)
    torch.testing.assert_close(trunk.stacks[0].firstconv.norm.running_mean, expected)
    assert trunk.stacks[0].firstconv.norm.num_batches_tracked == 1


@pytest.mark.parametrize("size", [(8, 12), (2, 2), (7, 8), (8, 5)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_pooling_with_and_without_a_backward(size, channels_last):
    x = torch.randn(2, 3, *size)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    expected = torch.nn.functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    assert torch.equal(image_trunk.half_size(x), expected)
    assert torch.equal(image_trunk.half_size(x.requires_grad_()), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_acting_gives_what_training_gives(record, variant):
    net = network(record, variant)
    pictures = net.img_preprocess(record[f"{variant}/image"])
    expected = net.img_process(pictures)
    assert expected.requires_grad
    with torch.inference_mode():
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(net.img_process(pictures), expected, atol=1e-5 * scale, rtol=0)


def test_pictures_of_another_size():
    trunk = ImpalaCNN((16, 24, 3), [4], 8)
    with pytest.raises(MscoreError, match=r"\(1, 2, 24, 16, 3\), expected \(B, T, 16, 24, 3\)"):
        trunk(torch.rand(1, 2, 24, 16, 3))


def test_statistics_of_pixels(tmp_path, tiny):
    import numpy as np

    np.savez(tmp_path / "pixels.npz", mean=np.full(3, 100.0), std=np.full(3, 50.0))
    net = VPTNetwork(**tiny, img_statistics=str(tmp_path / "pixels.npz"))
    assert net.img_preprocess(torch.full((1, 1, 2, 2, 3), 200, dtype=torch.uint8)).unique().tolist() == [2.0]
    assert {"img_preprocess.img_mean", "img_preprocess.img_std"} <= set(net.state_dict())
    with pytest.raises(MscoreError, match=r"nowhere\.npz.*'mean' and 'std'"):
        VPTNetwork(**tiny, img_statistics=str(tmp_path / "nowhere.npz"))
