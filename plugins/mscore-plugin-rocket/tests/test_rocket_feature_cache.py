"""A frozen backbone's features on disk: read where all is the same, computed where anything differs."""

import copy

import pytest
import torch
from mscore_plugin_rocket import FeatureCache
from mscore_plugin_rocket import feature_cache as module
from mscore_plugin_rocket.feature_cache import fingerprints

from mscore import MscoreError


@pytest.fixture
def frozen(small, tmp_path):
    def make(**arguments):
        return small(freeze_backbone=True, feature_cache=str(tmp_path / "features"), **arguments).train(False)

    return make


def counted(policy, batch):
    """Latents, and how many windows were read and how many computed."""
    before = policy.cache.hits, policy.cache.misses
    latents, _ = policy(batch)
    return latents, (policy.cache.hits - before[0], policy.cache.misses - before[1])


@torch.no_grad()
def test_the_second_epoch_does_not_run_the_backbone(frozen, small, window, monkeypatch):
    policy, batch = frozen(), window()
    first, counts = counted(policy, batch)
    assert counts == (0, 2)
    plain, _ = small(freeze_backbone=True)(batch)
    assert torch.equal(first["vpred"], plain["vpred"])
    other = frozen()  # another process would do the same
    monkeypatch.setattr(type(other.backbone), "forward", None)
    again, counts = counted(other, batch)
    assert counts == (2, 0)
    assert torch.equal(again["vpred"], first["vpred"])


@torch.no_grad()
def test_gradients_are_those_of_features_that_are_computed(frozen, small, window):
    batch, gradients = window(), []
    for policy in (frozen(), frozen(), small(freeze_backbone=True)):
        with torch.enable_grad():
            policy(batch)[0]["vpred"].sum().backward()
        gradients.append(policy.updim.weight.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        lambda policy, batch: batch.update(episode=["episode-0-0", "another"]),
        lambda policy, batch: batch["timestamp"][1].add_(4),
        lambda policy, batch: batch["image"][1, 2, 5, 5].bitwise_xor_(1),
        lambda policy, batch: batch["segmentation"]["obj_mask"][1, 3, 0, 0].bitwise_xor_(1),
    ],
)
def test_another_window_is_computed(frozen, window, change):
    policy, batch = frozen(), window()
    policy(batch)
    change(policy, batch)
    latents, counts = counted(policy, batch)
    assert counts == (1, 1)
    policy.cache = None
    torch.testing.assert_close(latents["vpred"], policy(batch)[0]["vpred"])


@torch.no_grad()
def test_other_weights_sizes_and_precision_are_computed(frozen, window):
    policy, batch = frozen(), window()
    policy(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert counted(policy, batch)[1] == (0, 2)
        assert counted(policy, batch)[1] == (2, 0)
    assert counted(policy, window(pixels=32))[1] == (0, 2)
    state = copy.deepcopy(policy.state_dict())
    next(iter(policy.backbone.parameters())).add_(0.1)
    assert counted(policy, batch)[1] == (0, 2)
    policy.load_state_dict(state)
    assert counted(policy, batch)[1] == (2, 0)
    assert counted(copy.deepcopy(policy).bfloat16(), batch)[1] == (0, 2)


@torch.no_grad()
def test_acting_keeps_nothing(frozen, window, tmp_path):
    policy, batch = frozen(), window(1, 1)
    policy.get_action({key: batch[key] for key in ("image", "segmentation", "first")}, None)
    assert not (tmp_path / "features").exists()


@torch.no_grad()
def test_a_damaged_file_is_computed_again(frozen, window, tmp_path):
    policy, batch = frozen(), window()
    expected, _ = policy(batch)
    files = sorted((tmp_path / "features").rglob("*.safetensors"))
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:100])
    with pytest.warns(UserWarning, match="computed again"):
        latents, counts = counted(policy, batch)
    assert counts == (1, 1)
    assert torch.equal(latents["vpred"], expected["vpred"])
    assert counted(policy, batch)[1] == (2, 0)
    assert not list((tmp_path / "features").rglob("*.part"))


@torch.no_grad()
def test_a_full_disk_ends_the_writing_alone(frozen, window, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RESERVE", 2**62)
    policy, batch = frozen(), window()
    with pytest.warns(UserWarning, match="computed each time"):
        policy(batch)
    assert counted(policy, batch)[1] == (0, 2)
    assert not list((tmp_path / "features").rglob("*.safetensors"))


def test_a_folder_that_cannot_be_written(small, window, tmp_path):
    (tmp_path / "file").write_text("")
    policy = small(freeze_backbone=True, feature_cache=str(tmp_path / "file"))
    with pytest.raises(MscoreError, match="feature_cache"):
        policy(window())


def test_a_backbone_that_is_trained_cannot_be_kept(small, tmp_path):
    with pytest.raises(MscoreError, match="freeze_backbone: true"):
        small(feature_cache=str(tmp_path))


def test_fingerprints_see_every_bit():
    random = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (1, 1, 7, 5, 3), dtype=torch.uint8, generator=random)
    known = {fingerprints(frame).item()}
    for place in range(frame.numel()):
        for bit in range(8):
            other = frame.clone()
            other.view(-1)[place] ^= 1 << bit
            known.add(fingerprints(other).item())
    assert len(known) == 8 * frame.numel() + 1
    # Two changes of the highest bits do not cancel out.
    for one in range(0, 24):
        other = frame.clone()
        other.view(-1)[[4 * one + 3, 4 * (one + 1) + 3]] ^= 128
        assert fingerprints(other).item() not in known


def test_it_can_be_sent_to_another_process(tmp_path):
    import pickle

    assert pickle.loads(pickle.dumps(FeatureCache(tmp_path))).folder == tmp_path
