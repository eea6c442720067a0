"""What VPT reads, remembers and refuses; MineStudio's known bugs are absent."""

import copy
import inspect
import pickle

import pytest
import torch
from mscore_plugin_bc import BehaviorCloneCallback
from mscore_plugin_vpt import FanInInitReLULayer, ResidualRecurrentBlocks, VPTPolicy

from mscore import MscoreError

CLOSE = {"atol": 2e-5, "rtol": 0.0}


def close(mine, theirs, **tolerance):
    for name in mine["pi_logits"]:
        one, other = mine["pi_logits"][name], theirs["pi_logits"][name]
        torch.testing.assert_close(one.float(), other, **{**CLOSE, **tolerance})
    torch.testing.assert_close(mine["vpred"].float(), theirs["vpred"], **{**CLOSE, **tolerance})


def cut(batch, start, stop, rows=slice(None)):
    return {name: batch[name][rows, start:stop] for name in ("image", "first")}


def joined(parts):
    return {
        "pi_logits": {name: torch.cat([one["pi_logits"][name] for one in parts], 1) for name in ("buttons", "camera")},
        "vpred": torch.cat([one["vpred"] for one in parts], 1),
    }


# --- memory -----------------------------------------------------------------------------------------


@torch.no_grad()
def test_one_instance_reads_any_batch_and_length(small, window):
    policy, batch = small(), window(3, 6)
    whole, _ = policy(batch)
    for rows, length in ((1, 1), (2, 6), (3, 2), (1, 3), (3, 6)):
        found, _ = policy(cut(batch, 0, length, slice(rows)))
        for name, logits in found["pi_logits"].items():
            torch.testing.assert_close(logits, whole["pi_logits"][name][:rows, :length], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("starts", [[], [(0, 0)], [(1, 3)], [(0, 2), (0, 3), (1, 19), (2, 0), (2, 11)]])
@pytest.mark.parametrize("sizes", [[1] * 20, [10, 10], [3, 1, 9, 7]])
def test_windows_steps_and_halves_are_the_same(small, window, starts, sizes):
    policy, batch = small(), window(3, 20)  # the memory holds eight frames
    for row, step in starts:
        batch["first"][row, step] = True
    before = policy(window(3, 5, seed=1), None)[1]
    whole, last = policy(batch, before)
    memory, parts, start = before, [], 0
    for size in sizes:
        latents, memory = policy(cut(batch, start, start + size), memory)
        parts.append(latents)
        start += size
    close(joined(parts), whole)
    for one, other in zip(memory, last, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@torch.no_grad()
def test_first_within_a_window_forgets(small, window):
    # MineStudio's reads no flags at all, so that memory leaks from one episode into the next.
    policy, batch = small(), window(2, 6)
    batch["first"][1, 3] = True
    whole, after = policy(batch)
    alone, afterwards = policy({"image": batch["image"][:, 3:]})
    torch.testing.assert_close(alone["vpred"][1], whole["vpred"][1, 3:], **CLOSE)
    assert not torch.allclose(alone["vpred"][0], whole["vpred"][0, 3:], atol=1e-4)
    assert torch.equal(after[0][1], afterwards[0][1])
    assert after[0][1].sum() == 3
    assert after[0][0].sum() == 6


@torch.no_grad()
def test_first_in_the_context_as_minestudios_trainers_pass_it(small, window):
    policy, batch = small(), window(2, 6)
    first = torch.zeros(2, 6, dtype=torch.bool)
    first[0, 4] = True
    expected, _ = policy({"image": batch["image"], "first": first})
    close(policy({"image": batch["image"]}, None, {"first": first})[0], expected)
    assert not torch.allclose(policy({"image": batch["image"]})[0]["vpred"], expected["vpred"], atol=1e-4)


@torch.no_grad()
def test_memory_holds_so_many_frames_and_no_more(small, window):
    policy, batch = small(n_recurrence_layers=1), window(1, 12)
    whole, _ = policy(batch)
    other = {**batch, "image": batch["image"].clone()}
    other["image"][:, :4] = 0
    changed, _ = policy(other)
    # A frame sees eight, itself included.
    torch.testing.assert_close(changed["vpred"][:, 11:], whole["vpred"][:, 11:], **CLOSE)
    assert not torch.allclose(changed["vpred"][:, 10], whole["vpred"][:, 10], atol=1e-5)


def test_the_state_is_made_where_the_policy_is(small):
    policy = small()
    policy.initial_state(2)
    assert {leaf.device.type for leaf in policy.to("meta").initial_state(2)} == {"meta"}
    assert [tuple(leaf.shape) for leaf in policy.initial_state(None)] == [(1, 8), (8, 32), (8, 32)] * 2
    assert policy.initial_state(2)[1].dtype == torch.float32
    assert policy.bfloat16().initial_state(2)[1].dtype == torch.bfloat16


def test_nothing_is_kept_between_calls(small, window):
    policy = small()
    before = set(dict(policy.named_buffers())), {name: set(vars(one)) for name, one in policy.named_modules()}
    policy(window(2, 5))
    policy(window(1, 1))
    after = set(dict(policy.named_buffers())), {name: set(vars(one)) for name, one in policy.named_modules()}
    assert after == before
    assert len(pickle.dumps(policy)) < 4_000_000


class AsTheGuidePrintsIt(VPTPolicy):
    """With the ``forward`` of MineStudio's guide "Offline Training"."""

    # fmt: off
    def forward(self, input, state_in, **kwargs):
        B, T = input["image"].shape[:2]
        first = torch.tensor([[False]], device=self.device).repeat(B, T)
        state_in = self.initial_state(B) if state_in is None else state_in
        (pi_h, v_h), state_out = self.net(input, state_in, context={"first": first})
        pi_logits = self.pi_head(pi_h)
        vpred = self.value_head(v_h)
        latents = {'pi_logits': pi_logits, 'vpred': vpred}
        return latents, state_out
    # fmt: on


@torch.no_grad()
def test_a_subclass_as_minestudios_guide_writes_one(small, window):
    policy, batch = small(), window(2, 6)
    subclass = AsTheGuidePrintsIt(policy.policy_kwargs, policy.action_space, policy.temperature).eval()
    subclass.load_state_dict(policy.state_dict())
    latents, state = subclass(batch, None)
    close(latents, policy(batch)[0])
    subclass.get_action({"image": batch["image"][:, :1]}, state)


# --- MineStudio's bugs ------------------------------------------------------------------------------


def test_an_error_within_the_network_is_shown_as_it_is(small, window, monkeypatch):
    # MineStudio's opens a debugger of ray and raises UnboundLocalError.
    policy = small()

    def fail(*args):
        raise RuntimeError("out of memory, say")

    monkeypatch.setattr(policy.net.recurrent_layer, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory, say"):
        policy(window())


@torch.no_grad()
def test_single_output_mixes_no_rows(small, window):
    policy, batch = small(single_output=True), window(2, 3)
    whole, _ = policy(batch)
    for row in range(2):
        alone, _ = policy(cut(batch, 0, 3, slice(row, row + 1)))
        torch.testing.assert_close(alone["vpred"][0], whole["vpred"][row], **CLOSE)


def test_a_batch_of_another_size_after_training(small, window):
    policy = small().train()
    for rows, length in ((2, 6), (1, 6), (1, 1), (2, 1)):
        latents, _ = policy(window(rows, length))
        latents["vpred"].sum().backward()


def test_frozen_statistics_are_no_parameters_to_train(small):
    names = {name for name, one in small().named_parameters() if not one.requires_grad}
    assert names <= {f"value_head.normalizer.{name}" for name in ("running_mean", "running_mean_sq", "debiasing_term")}


def test_the_package_needs_nothing_of_minestudios():
    import mscore_plugin_vpt

    source = inspect.getsource(inspect.getmodule(VPTPolicy)) + inspect.getsource(mscore_plugin_vpt)
    assert not any(name in source for name in ("import gym3", "import ray", "import einops", "import absl"))


# --- kinds of numbers -------------------------------------------------------------------------------


@torch.no_grad()
def test_pixels_of_any_type(small, window):
    policy, batch = small(), window()
    expected, _ = policy(batch)
    for dtype in (torch.float32, torch.int64, torch.float64):
        close(policy({**batch, "image": batch["image"].to(dtype)})[0], expected)


def test_bfloat16_autocast(small, window):
    policy, batch = small(), window(2, 5)
    batch["first"][0, 2] = True
    exact, _ = policy(batch)
    with torch.autocast("cpu", torch.bfloat16):
        latents, state = policy(batch)
        close(latents, exact, atol=0.15)
        latents, state = policy(batch, [one.detach() for one in state])
        BehaviorCloneCallback()(batch, 0, "train", latents, policy)["loss"].backward()
        policy.get_action({"image": batch["image"][:, :1]}, [one.detach() for one in state])
    assert latents["pi_logits"]["buttons"].dtype == torch.float32
    assert {one.dtype for one in state} == {torch.bool, torch.float32}
    trained = [one for name, one in policy.named_parameters() if name.startswith("net.")]
    assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in trained)


@torch.no_grad()
def test_bfloat16_weights(small, window):
    # MineStudio's cannot be cast.
    policy, batch = small(), window(2, 5)
    batch["first"][0, 2] = True
    exact, _ = policy(batch)
    half = copy.deepcopy(policy).bfloat16()
    latents, state = half(batch)
    close(latents, exact, atol=0.15)
    assert {one.dtype for one in state} == {torch.bool, torch.bfloat16}
    half(batch, state)
    half.get_action({"image": batch["image"][0, 0].numpy()}, None, input_shape="*")


# --- compiled and exported --------------------------------------------------------------------------


@torch.no_grad()
def test_compiled_without_a_graph_break(small, window):
    policy, batch = small(), window()
    batch["first"][0, 2] = True
    compiled = torch.compile(policy, backend="aot_eager", fullgraph=True)
    close(compiled(cut(batch, 0, 4))[0], policy(batch)[0])
    state = policy.initial_state(2)
    close(compiled(cut(batch, 0, 1), state)[0], policy(cut(batch, 0, 1), state)[0])


@torch.no_grad()
def test_compiled_in_place_as_the_docs_say(small, window):
    policy, frame = small(), cut(window(1, 3), 0, 1)
    names, expected = set(policy.state_dict()), policy(frame)[0]
    policy.net.compile(backend="aot_eager")
    close(policy(frame)[0], expected)
    assert set(policy.state_dict()) == names


@pytest.mark.slow
def test_compiled_by_inductor(small, window):
    # Few layers, as compiling takes long on a busy machine.
    policy, batch = small(n_recurrence_layers=1, impala_chans=[4, 8]), window(1, 3)
    acting = copy.deepcopy(policy)
    acting.net = torch.compile(acting.net)
    mine = theirs = None
    for step in range(3):
        frame = {"image": batch["image"][:, step : step + 1]}
        _, mine = acting.get_action(frame, mine)
        _, theirs = policy.get_action(frame, theirs)
        close(acting.cache_latents, policy.cache_latents, atol=5e-5)


@torch.no_grad()
def test_a_single_step_is_exported(small, window, tmp_path):
    policy, batch = small(), window(1, 3)
    state = policy(batch)[1]
    seen = cut(batch, 0, 1)
    torch.export.save(torch.export.export(policy, (seen, state)), tmp_path / "step.pt2")
    program = torch.export.load(tmp_path / "step.pt2").module()
    for first in (False, True):
        seen["first"][:] = first
        latents, after = program(seen, state)
        expected, afterwards = policy(seen, state)
        close(latents, expected)
        for one, other in zip(after, afterwards, strict=True):
            torch.testing.assert_close(one, other, **CLOSE)


# --- what is refused, and how it begins -------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidsiz": 32}, r"'hidsiz'\. Did you mean 'hidsize'"),
        ({"attention_heads": 3}, "3 attention heads do not divide"),
        ({"recurrence_type": "multi_layer_lstm"}, "only 'transformer'"),
        ({"impala_kwargs": {"pool": 2}}, "does not fit VPT's network.*pool"),
    ],
)
def test_arguments_that_are_refused(small, arguments, message):
    with pytest.raises(MscoreError, match=message):
        small(**arguments)


def test_input_that_is_refused(small, window):
    policy, batch = small(), window()
    with pytest.raises(MscoreError, match="lacks 'image'; it has 'mask'"):
        policy({"mask": batch["mask"]})
    with pytest.raises(MscoreError, match=r"expected \(B, T, 32, 32, 3\).*img_shape"):
        policy(window(pixels=64))


def test_weights_begin_as_vpts_do(small):
    policy = small()
    norms = {
        name: one.layer.weight.flatten(1).norm(dim=1)
        for name, one in policy.net.named_modules()
        if isinstance(one, FanInInitReLULayer)
    }
    expected = {"stacks.0.firstconv": 1.0, "blocks.1.conv0": 1.107, "cnn.dense": 1.4, "mlp0": 1.0, "mlp1": 0.5}
    for part, norm in expected.items():
        found = torch.cat([value for name, value in norms.items() if name.endswith(part)])
        torch.testing.assert_close(found, torch.full_like(found, norm), atol=1e-3, rtol=0)
    core = ResidualRecurrentBlocks(32, timesteps=4, attention_memory_size=12, n_block=4, attention_heads=2)
    attention = core.blocks[0].r["orc_block"]
    for layer, norm in (("q", 0.1), ("k", 0.2), ("v", 0.5946), ("proj", 0.5946), ("r", 0.1)):
        found = getattr(attention, f"{layer}_layer").weight.norm(dim=1)
        torch.testing.assert_close(found, torch.full_like(found, norm), atol=1e-3, rtol=0)


def test_it_learns(small, window):
    policy, batch, objective = small().train(), window(), BehaviorCloneCallback()
    optimizer = torch.optim.AdamW([one for one in policy.parameters() if one.requires_grad], 3e-3)
    losses = []
    for _ in range(15):
        loss = objective(batch, 0, "train", policy(batch)[0], policy)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
