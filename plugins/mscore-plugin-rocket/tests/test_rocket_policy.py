"""What ROCKET-1 reads, remembers and refuses; MineStudio's known bugs are absent."""

import copy

import pytest
import timm
import torch
from mscore_plugin_bc import BehaviorCloneCallback
from mscore_plugin_rocket import RocketPolicy

from mscore import MscoreError


def close(mine, theirs, atol=2e-5):
    for name in mine["pi_logits"]:
        torch.testing.assert_close(mine["pi_logits"][name], theirs["pi_logits"][name], atol=atol, rtol=0)
    torch.testing.assert_close(mine["vpred"].float(), theirs["vpred"], atol=atol, rtol=0)


def steps(batch, start, stop):
    cut = slice(start, stop)
    parts = {name: value[:, cut] for name, value in batch["segmentation"].items()}
    return {"image": batch["image"][:, cut], "first": batch["first"][:, cut], "segmentation": parts}


@torch.no_grad()
def test_one_instance_reads_any_batch_and_length(small, window):
    # MineStudio's keeps the flags of its first batch, and fails at any other size.
    policy, batch = small(), window(3, 6)
    whole, _ = policy(batch)
    for rows, length in ((1, 1), (2, 6), (3, 2), (1, 3)):
        part = {key: value[:rows] for key, value in steps(batch, 0, length).items() if key != "segmentation"}
        part["segmentation"] = {key: value[:rows, :length] for key, value in batch["segmentation"].items()}
        found, _ = policy(part)
        for name, logits in found["pi_logits"].items():
            torch.testing.assert_close(logits, whole["pi_logits"][name][:rows, :length], atol=2e-5, rtol=0)


@torch.no_grad()
def test_first_forgets_in_the_middle_of_a_window_as_step_by_step(small, window):
    policy, batch = small(), window(2, 6)
    batch["first"][1, 3] = True
    whole, _ = policy(batch)
    state, logits = None, []
    for step in range(6):
        latents, state = policy(steps(batch, step, step + 1), state)
        logits.append(latents["pi_logits"]["buttons"])
    torch.testing.assert_close(torch.cat(logits, 1), whole["pi_logits"]["buttons"], atol=2e-5, rtol=0)
    alone, _ = policy(steps(batch, 3, 6))
    torch.testing.assert_close(alone["vpred"][1], whole["vpred"][1, 3:], atol=2e-5, rtol=0)
    assert not torch.allclose(alone["vpred"][0], whole["vpred"][0, 3:], atol=1e-4)


@torch.no_grad()
def test_mask_and_interaction_matter_in_every_type(small, window):
    policy, batch = small(), window()
    expected, _ = policy(batch)
    for dtype in (torch.bool, torch.float32, torch.int64):
        batch["segmentation"]["obj_mask"] = batch["segmentation"]["obj_mask"].to(dtype)
        close(policy(batch)[0], expected)
    segment = batch.pop("segmentation")
    close(policy({**batch, "segment": segment})[0], expected)
    other = {**segment, "obj_mask": torch.zeros_like(segment["obj_mask"])}
    assert not torch.allclose(policy({**batch, "segment": other})[0]["vpred"], expected["vpred"], atol=1e-4)
    other = {**segment, "obj_id": segment["obj_id"].clamp(max=5) + 1}
    assert not torch.allclose(policy({**batch, "segment": other})[0]["vpred"], expected["vpred"], atol=1e-4)


def test_acting_with_one_frame(small, window):
    policy, batch = small(), window(1, 1)
    frame = {
        "image": batch["image"][0, 0].numpy(),
        "segmentation": {"obj_mask": batch["segmentation"]["obj_mask"][0, 0].numpy(), "obj_id": -1},
    }
    action, state = policy.get_action(frame, None, input_shape="*")
    assert action["buttons"].shape == (1,)
    action, state = policy.get_action(frame, state, input_shape="*", deterministic=True)
    assert [tuple(one.shape) for one in state] == [tuple(one.shape) for one in policy.initial_state(None)]


def test_half_precision(small, window):
    # MineStudio's cannot be cast to bfloat16.
    policy, batch = small(), window()
    exact, _ = policy(batch)
    with torch.autocast("cpu", torch.bfloat16):
        latents, state = policy(batch)
        latents, _ = policy(batch, [one.detach() for one in state])
        latents["pi_logits"]["buttons"].square().mean().backward()
    assert latents["pi_logits"]["buttons"].dtype == torch.float32
    half = copy.deepcopy(policy).bfloat16()
    latents, state = half(batch)
    half(batch, state)
    assert latents["vpred"].dtype == torch.bfloat16
    close(latents, exact, atol=0.15)


@torch.no_grad()
def test_compiled(small, window):
    policy, batch = small(), window()
    batch["first"][0, 2] = True
    seen = {key: batch[key] for key in ("image", "segmentation", "first")}
    compiled = torch.compile(policy, backend="aot_eager", fullgraph=True)
    close(compiled(seen)[0], policy(seen)[0])


@torch.no_grad()
def test_exported_step(small, window):
    policy, seen = small(), steps(window(1, 1), 0, 1)
    state = policy.initial_state(1)
    program = torch.export.export(policy, (seen, state))
    close(program.module()(seen, state)[0], policy(seen, state)[0])


def test_a_frozen_backbone_keeps_its_batch_statistics(small, window):
    # MineStudio's goes on averaging them.
    policy = small("efficientnet_b0", freeze_backbone=True).train()
    kept = copy.deepcopy(policy.backbone.state_dict())
    latents, _ = policy(window(pixels=32))
    latents["vpred"].sum().backward()
    assert all(torch.equal(kept[name], value) for name, value in policy.backbone.state_dict().items())
    assert not any(one.requires_grad for one in policy.backbone.parameters())
    assert policy.updim.weight.grad is not None
    trained = small("efficientnet_b0").train()
    before = trained.backbone.bn1.running_mean.clone()
    trained(window(pixels=32))
    assert not torch.equal(trained.backbone.bn1.running_mean, before)


def test_names_of_backbones(small):
    # MineStudio's own default name is refused by current versions of timm.
    plain, prefixed = small("test_vit.r160_in1k"), small("timm/test_vit.r160_in1k")
    assert plain.state_dict().keys() == prefixed.state_dict().keys()
    assert "backbone.model.patch_embed.proj.weight" in plain.state_dict()
    assert small().state_dict()["updim.weight"].shape[:1] == (32,)


def test_a_name_that_is_unknown(small):
    with pytest.raises(MscoreError, match=r"did you mean .*efficientnet_b0"):
        small("efficientnet_b00")
    with pytest.raises(MscoreError, match="ra_in1k"):
        small("efficientnet_b0.nonsense")


def test_weights_that_cannot_be_had(small, monkeypatch):
    def no_network(*args, **kwargs):
        assert kwargs["pretrained"]
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(MscoreError, match=r"efficientnet_b0\.ra_in1k.*no route.*pretrained: false"):
        small("efficientnet_b0.ra_in1k", pretrained=True)


def test_weights_that_there_are_none_of(small):
    without = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(MscoreError, match=f"{without}.*pretrained: false"):
        small(without, pretrained=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: batch.pop("segmentation"), "enable_segment"),
        (lambda batch: batch["segmentation"].pop("obj_id"), "obj_id"),
        (lambda batch: batch.pop("image"), "'image'"),
        (lambda batch: batch["segmentation"].update(obj_mask=torch.zeros(2, 4, 32, 32)), r"\(2, 4, 64, 64\)"),
        (lambda batch: batch["segmentation"]["obj_id"].fill_(9), "obj_id is 9"),
        (lambda batch: batch["segmentation"]["obj_id"].fill_(-2), "obj_id is -2"),
    ],
)
def test_what_is_refused(small, window, change, message):
    batch = window()
    change(batch)
    with pytest.raises(MscoreError, match=message):
        small()(batch)


def test_frames_of_a_size_that_a_backbone_cannot_read(small, window):
    with pytest.raises(MscoreError, match=r"224 x 224.*64 x 64"):
        small("vit_tiny_patch16_224")(window())


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(MscoreError, match="num_heads"):
        RocketPolicy("test_resnet", hiddim=30, num_heads=4, pretrained=False)


def test_it_learns(small, window):
    policy, batch, objective = small().train(), window(), BehaviorCloneCallback()
    optimizer = torch.optim.AdamW([one for one in policy.parameters() if one.requires_grad], 1e-3)
    losses = []
    for _ in range(12):
        loss = objective(batch, 0, "train", policy(batch)[0], policy)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
