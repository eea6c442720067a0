"""MineStudio's recurrent transformer and ours, with the same weights and inputs."""

import pytest
import torch
from mscore_plugin_vpt import ResidualRecurrentBlocks
from mscore_plugin_vpt.attention import HIDDEN, by_distance_to_by_frame, see

from mscore import MscoreError

CLOSE = {"atol": 2e-5, "rtol": 0.0}
VARIANTS = ["base", "film", "mask_none", "ptact", "nopt", "nonres", "heads1_ratio2", "mem4"]


@pytest.fixture(scope="module")
def record(golden):
    return golden("recurrent.npz")


def blocks(record, variant):
    core = ResidualRecurrentBlocks(**record.settings(f"{variant}/cfg"))
    core.load_state_dict(record.under(f"{variant}/sd/"))
    return core


@pytest.mark.parametrize("variant", VARIANTS)
def test_windows_of_all_lengths_and_their_gradients(record, variant):
    core, state = blocks(record, variant), None
    direction = torch.linspace(-1, 1, 32)
    windows = [index for index in range(7) if f"{variant}/{index}/x" in record]
    assert len(windows) >= 3
    for index in windows:
        prefix = f"{variant}/{index}"
        x = record[f"{prefix}/x"].requires_grad_()
        condition = record.get(f"{prefix}/ce_latent")
        before = core.initial_state(3) if state is None else [one.detach() for one in state]
        y, state = core(x, record[f"{prefix}/first"], before, condition)
        torch.testing.assert_close(y, record[f"{prefix}/y"], **CLOSE)
        (y * direction).sum().backward()
        torch.testing.assert_close(x.grad, record[f"{prefix}/dx"], atol=5e-5, rtol=1e-4)
        for mine, theirs in zip(state, record.list(f"{prefix}/state_out/"), strict=False):
            torch.testing.assert_close(mine, theirs, **CLOSE)
    for name, expected in record.under(f"{variant}/grad_sum/").items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(core.get_parameter(name).grad, expected, atol=1e-4 * scale + 1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("rows", [slice(0, 3), slice(0, 1), slice(1, 2)], ids=["three rows", "the first", "the second"])
@pytest.mark.parametrize("variant", ["base", "film", "mem4", "heads1_ratio2"])
def test_frame_by_frame(record, variant, rows):
    core = blocks(record, variant).eval()
    state = core.initial_state(rows.stop - rows.start)
    for index in range(7):
        prefix = f"{variant}/{index}"
        x, first = record[f"{prefix}/x"][rows], record[f"{prefix}/first"][rows]
        condition = record.get(f"{prefix}/ce_latent")
        for step in range(x.shape[1]):
            cut = slice(step, step + 1)
            part = None if condition is None else condition[rows, cut]
            y, state = core(x[:, cut], first[:, cut], state, part)
            torch.testing.assert_close(y, record[f"{prefix}/y"][rows, cut], **CLOSE)


def test_what_queries_see(golden):
    record = golden("attn_mask.npz")
    cases = record.settings()["cases"]
    assert len(cases) == 32
    for index, case in enumerate(cases):
        first, memory_ok = record[f"case{index}/first"], record[f"case{index}/state_mask_in"]
        visible = see(memory_ok, first, case["t"], case["heads"], torch.float32)
        assert torch.equal(visible.memory_ok, record[f"case{index}/state_mask_out"])
        by_distance = visible.bias.view(-1, case["t"], case["maxlen"])
        mask = record[f"case{index}/mask_bhtT"]
        assert torch.equal(by_distance_to_by_frame(by_distance, HIDDEN) == 0, mask[..., 1:])
        assert not mask[..., 0].any()  # the slot that is left out here


def test_where_weights_of_distances_lie(golden):
    record = golden("attn_mask.npz")
    for index in range(5):
        length, frames = record[f"bandify{index}/tT"].tolist()
        functions = record[f"bandify{index}/b_nd"]
        by_distance = functions.flip(1).unsqueeze(1).expand(-1, length, -1)
        found, expected = by_distance_to_by_frame(by_distance, 0.0), record[f"bandify{index}/D_ntT"]
        both = min(found.shape[-1], frames)
        assert torch.equal(found[..., -both:], expected[..., -both:])
        assert not expected[..., :-both].any()


def test_what_is_not_seen_changes_nothing():
    torch.manual_seed(0)
    core = ResidualRecurrentBlocks(16, timesteps=4, attention_memory_size=10, attention_heads=2).eval()
    x, first = torch.randn(2, 5, 16), torch.zeros(2, 5, dtype=torch.bool)
    first[0, 2] = True
    poisoned = [one if one.dtype == torch.bool else one + 1e6 for one in core.initial_state(2)]
    for start in (None, first):
        expected, _ = core(x, start, core.initial_state(2))
        torch.testing.assert_close(core(x, start, poisoned)[0], expected)


@pytest.mark.parametrize("style", ["clipped_causal", "none"])
@pytest.mark.parametrize("length", [1, 3, 12])
def test_acting_gives_what_training_gives(style, length):
    # Attention goes different ways where nothing is trained and where something is.
    torch.manual_seed(0)
    core = ResidualRecurrentBlocks(
        16, timesteps=4, attention_memory_size=12, attention_heads=2, attention_mask_style=style
    )
    before = core(torch.randn(3, 5, 16), None, core.initial_state(3))[1]
    x, first = torch.randn(3, length, 16), torch.zeros(3, length, dtype=torch.bool)
    first[1, length // 2] = True
    expected, after = core(x, first, before)
    assert expected.requires_grad
    with torch.inference_mode():
        found, state = core(x, first, before)
    torch.testing.assert_close(found, expected, **CLOSE)
    for mine, theirs in zip(state, after, strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


def test_hooks_and_replaced_layers_are_honoured():
    torch.manual_seed(0)
    core = ResidualRecurrentBlocks(16, timesteps=4, attention_memory_size=8, n_block=1, attention_heads=2)
    x, state = torch.randn(1, 1, 16), core.initial_state(1)
    plain = core(x, None, state)[0]
    attention, seen = core.blocks[0].r["orc_block"], []
    handle = attention.q_layer.register_forward_hook(lambda layer, args, y: seen.append(y.shape))
    core(x, None, state)
    with torch.no_grad():
        core(x, None, state)
    assert seen == [(1, 16)] * 2
    handle.remove()

    class Louder(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    attention.proj_layer.__class__ = Louder
    assert not torch.allclose(core(x, None, state)[0], plain, atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(core(x, None, state)[0], plain, atol=1e-4)


def test_gradients_do_not_cross_a_start():
    torch.manual_seed(0)
    core = ResidualRecurrentBlocks(16, timesteps=4, attention_memory_size=10, attention_heads=2)
    x, first = torch.randn(1, 6, 16, requires_grad=True), torch.zeros(1, 6, dtype=torch.bool)
    first[0, 3] = True
    core(x, first, core.initial_state(1))[0][:, 3:].square().sum().backward()
    assert x.grad[:, :3].abs().max() == 0
    assert x.grad[:, 3:].abs().min() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention_heads": 3}, "3 attention heads do not divide a width of 16"),
        ({"attention_memory_size": 4}, "must be more than timesteps"),
        ({"recurrence_type": "lstm"}, "only 'transformer'"),
        ({"attention_mask_style": "causal"}, "expected 'clipped_causal' or 'none'"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(MscoreError, match=message):
        ResidualRecurrentBlocks(**{"hidsize": 16, "timesteps": 4, "attention_memory_size": 8, **arguments})


def test_a_state_of_other_blocks():
    core = ResidualRecurrentBlocks(16, timesteps=4, attention_memory_size=8, n_block=2)
    with pytest.raises(MscoreError, match="3 tensors, expected 3 for each of 2 blocks"):
        core(torch.randn(1, 1, 16), None, core.initial_state(1)[:3])
