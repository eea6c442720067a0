"""What GROOT reads, follows and remembers; MineStudio's known bugs are absent."""

import copy
import os

import pytest
import torch
from mscore_plugin_bc import BehaviorCloneCallback
from mscore_plugin_groot import GrootPolicy, read_reference
from mscore_plugin_groot import policy as module
from mscore_plugin_kl import KLDivergenceCallback

from mscore import MscoreError


def close(mine, theirs, atol=2e-5):
    for name in mine["pi_logits"]:
        torch.testing.assert_close(mine["pi_logits"][name], theirs["pi_logits"][name], atol=atol, rtol=0)
    torch.testing.assert_close(mine["vpred"].float(), theirs["vpred"].float(), atol=atol, rtol=0)


def seen(batch, start=0, stop=None, **more):
    return {"image": batch["image"][:, start:stop], "first": batch["first"][:, start:stop], **more}


def test_it_can_be_built_without_saying_how_long_windows_are(monkeypatch):
    # MineStudio's default constructor fails.
    policy = GrootPolicy("test_resnet", hiddim=64, pretrained=False)
    assert policy.decoder.timesteps == 128
    assert policy.export_config()["decoder_kwargs"] == {"timesteps": 128}


@torch.no_grad()
def test_one_instance_reads_any_batch_and_length(small, window):
    # MineStudio's keeps the flags of its first batch, and fails at any other size.
    policy = small()
    for rows, length in ((3, 6), (1, 1), (2, 9), (3, 1)):
        latents, state = policy(seen(window(rows, length)))
        assert latents["vpred"].shape == (rows, length, 1)
        assert latents["posterior_dist"]["mu"].shape == (rows, 32)
        assert state[1].shape == (rows, 8, 32)


@torch.no_grad()
def test_references_for_any_batch_and_length(small, window, video):
    # MineStudio's follows a video with one frame of one row only.
    policy, batch, paths = small(), window(2, 5), [video(0), video(1)]
    both, _ = policy(seen(batch, ref_video_path=paths))
    frames = [[path] * 5 for path in paths]
    close(policy(seen(batch, ref_video_path=frames))[0], both)
    for row, path in enumerate(paths):
        alone = {key: value[row : row + 1] for key, value in seen(batch).items()}
        for given in (path, [path], [[path]], [[path] * 5]):
            latents, _ = policy({**alone, "ref_video_path": given})
            torch.testing.assert_close(latents["vpred"][0], both["vpred"][row], atol=2e-5, rtol=0)
        for name, value in policy.encode_video(path)["posterior_dist"].items():
            mine = both["posterior_dist"][name][row : row + 1]
            torch.testing.assert_close(mine, value.view(1, -1), atol=2e-5, rtol=0)
    assert not torch.allclose(both["posterior_dist"]["mu"][0], both["posterior_dist"]["mu"][1], atol=1e-3)


@torch.no_grad()
def test_first_forgets_in_the_middle_of_a_window_as_step_by_step(small, window, video):
    policy, batch, path = small(), window(2, 6), video()
    batch["first"][1, 3] = True
    whole, _ = policy(seen(batch, ref_video_path=path))
    state, values = None, []
    for step in range(6):
        latents, state = policy(seen(batch, step, step + 1, ref_video_path=path), state)
        values.append(latents["vpred"])
    torch.testing.assert_close(torch.cat(values, 1), whole["vpred"], atol=2e-5, rtol=0)
    alone, _ = policy(seen(batch, 3, ref_video_path=path))
    torch.testing.assert_close(alone["vpred"][1], whole["vpred"][1, 3:], atol=2e-5, rtol=0)
    assert not torch.allclose(alone["vpred"][0], whole["vpred"][0, 3:], atol=1e-4)


def test_a_reference_is_read_once_and_again_when_it_or_the_weights_change(small, window, video, monkeypatch):
    policy, batch, path = small(), window(1, 1), video(0)
    reads = []
    monkeypatch.setattr(module, "read_reference", lambda *given: reads.append(given) or read_reference(*given))

    def act():
        policy.get_action(seen(batch, ref_video_path=path), None)
        return policy.cache_latents["posterior_dist"]["mu"].clone()

    before = act()
    act()
    assert len(reads) == 1
    os.replace(video(1, frames=5), path)  # MineStudio's would follow the old one for ever
    after = act()
    assert len(reads) == 2
    assert not torch.allclose(before, after, atol=1e-4)
    with torch.no_grad():
        policy.video_encoder.encode_dist.encode_mu.bias.add_(1.0)
    torch.testing.assert_close(act(), after + 1.0)
    assert len(reads) == 3


def test_a_reference_trains_too(small, window, video):
    policy, path = small().train(), video()
    latents, _ = policy(seen(window(), ref_video_path=path))
    latents["vpred"].sum().backward()
    assert policy.video_encoder.encode_dist.encode_mu.weight.grad is not None
    assert policy(seen(window(), ref_video_path=path))[0]["vpred"].requires_grad


def test_acting_with_one_frame(small, window, video):
    policy, batch = small(), window(1, 1)
    frame = {"image": batch["image"][0, 0].numpy(), "ref_video_path": video()}
    action, state = policy.get_action(frame, None, input_shape="*")
    action, state = policy.get_action(frame, state, input_shape="*", deterministic=True)
    assert action["camera"].shape == (1,)


def test_reading_a_reference(video):
    path = video(frames=6)
    assert read_reference(path, 4, 32, 48).shape == (4, 32, 48, 3)
    assert read_reference(path, 100, 32, 48).shape == (6, 32, 48, 3)
    one, other = read_reference(path, 2, 64, 96).float()
    assert (one - other).abs().mean() > 20


def test_references_that_cannot_be_read(small, window, tmp_path, video):
    policy, batch = small(), window(2, 3)
    (tmp_path / "text.mp4").write_text("no video")
    for path, message in ((tmp_path / "text.mp4", "text.mp4"), (tmp_path / "nowhere.mp4", "nowhere.mp4.*No such file")):
        with pytest.raises(MscoreError, match=message):
            policy(seen(batch, ref_video_path=str(path)))
    with pytest.raises(MscoreError, match="3 entries for 2 rows"):
        policy(seen(batch, ref_video_path=[video()] * 3))
    with pytest.raises(MscoreError, match="2 entries for 3 frames"):
        policy(seen(batch, ref_video_path=[[video()] * 2]))
    with pytest.raises(MscoreError, match="a float"):
        policy(seen(batch, ref_video_path=1.5))


def test_half_precision(small, window, video):
    policy, batch = small(), window()
    exact, _ = policy(seen(batch))
    with torch.autocast("cpu", torch.bfloat16):
        latents, state = policy(seen(batch))
        latents, _ = policy(seen(batch), [one.detach() for one in state])
        latents["pi_logits"]["buttons"].square().mean().backward()
    assert latents["posterior_dist"]["log_var"].dtype == torch.float32
    half = copy.deepcopy(policy).bfloat16()
    latents, state = half(seen(batch))
    half(seen(batch, ref_video_path=video()), state)
    close(latents, exact, atol=0.15)


@torch.no_grad()
def test_compiled(small, window):
    policy, batch = small(), window()
    batch["first"][0, 2] = True
    close(torch.compile(policy, backend="aot_eager", fullgraph=True)(seen(batch))[0], policy(seen(batch))[0])


@torch.no_grad()
def test_exported_step(small, window):
    policy, frame = small(), seen(window(1, 1))
    state = policy.initial_state(1)
    close(torch.export.export(policy, (frame, state)).module()(frame, state)[0], policy(frame, state)[0])


@torch.no_grad()
def test_exported_step_with_a_reference(small, window, video):
    policy, frame, path = small(), seen(window(1, 1)), video(0)
    state = policy.initial_state(1)
    expected, _ = policy({**frame, "ref_video_path": path}, state)
    known = {**frame, "ref_condition": policy.encode_video(path)}
    close(policy(known, state)[0], expected)
    program = torch.export.export(policy, (known, state)).module()
    close(program(known, state)[0], expected)
    other = {**frame, "ref_condition": policy.encode_video(video(1))}
    close(program(other, state)[0], policy(other, state)[0])
    with pytest.raises(MscoreError, match=r"reads no videos.*ref_condition"):
        torch.export.export(policy, ({**frame, "ref_video_path": path}, state))


@torch.no_grad()
def test_conditions_of_every_row(small, window, video):
    policy, batch, paths = small(), window(2, 3), [video(0), video(1)]
    both, _ = policy(seen(batch, ref_video_path=paths))
    known = {name: both[name] for name in ("posterior_dist", "prior_dist")}
    again, _ = policy(seen(batch, ref_condition=known))
    close(again, both)
    one = {"image": batch["image"][0, 0].numpy(), "ref_condition": policy.encode_video(paths[0])}
    policy.get_action(one, None, input_shape="*")
    assert policy.vpred.shape == (1, 1, 1)


def test_a_frozen_backbone_keeps_its_batch_statistics(small, window):
    # MineStudio's goes on averaging them.
    policy = small("efficientnet_b0").train()
    kept = copy.deepcopy(policy.backbone.state_dict())
    policy(seen(window(pixels=32)))[0]["vpred"].sum().backward()
    assert all(torch.equal(kept[name], value) for name, value in policy.backbone.state_dict().items())
    assert not any(one.requires_grad for one in policy.backbone.parameters())
    assert any(one.requires_grad for one in small(freeze_backbone=False).backbone.parameters())


@torch.no_grad()
def test_features_on_disk(small, window, tmp_path, monkeypatch):
    policy, batch = small(feature_cache=str(tmp_path / "features")), window()
    expected, _ = small()(batch)
    close(policy(batch)[0], expected)
    monkeypatch.setattr(type(policy.backbone), "forward", None)
    close(policy(batch)[0], expected)
    assert (policy.cache.hits, policy.cache.misses) == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hiddim": 36}, "8 must divide"),
        ({"decoder_kwargs": {"layers": 3}}, "decoder_kwargs.*layers"),
        ({"video_encoder_kwargs": {"num_heads": 5}}, "video_encoder_kwargs.*divisible"),
        ({"backbone": "efficientnet_b00"}, "did you mean"),
    ],
)
def test_arguments_that_do_not_fit(small, arguments, message):
    with pytest.raises(MscoreError, match=message):
        small(**arguments)


def test_it_learns_with_both_objectives(small, window):
    policy, batch, objectives = small().train(), window(), (BehaviorCloneCallback(), KLDivergenceCallback(0.01))
    optimizer = torch.optim.AdamW([one for one in policy.parameters() if one.requires_grad], 1e-3)
    losses = []
    for _ in range(20):
        latents, _ = policy(batch)
        loss = sum(objective(batch, 0, "train", latents, policy)["loss"] for objective in objectives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
