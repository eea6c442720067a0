"""EMAOptimizer and ema_update, without Lightning."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mscore_plugin_ema import EMAOptimizer, ema_update, run_ema_update_cpu
from mscore_plugin_ema.swap import BufferSlot
from mscore_plugin_ema.update import OffloadedUpdate
from torch import nn

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent / "golden" / "ema.npz"


def linear() -> nn.Linear:
    return nn.Linear(3, 2)


def step(module: nn.Module, optimizer: torch.optim.Optimizer, scale: float = 1.0) -> None:
    optimizer.zero_grad()
    x = torch.ones(2, 3, dtype=next(module.parameters()).dtype) * scale
    (module(x) ** 2).mean().backward()
    optimizer.step()


def test_it_gives_the_numbers_of_the_peer() -> None:
    golden = np.load(GOLDEN)
    tensor = {key: torch.from_numpy(np.array(golden[key])) for key in golden.files}
    module = linear()
    module.load_state_dict({"weight": tensor["init/weight"], "bias": tensor["init/bias"]})
    optimizer = EMAOptimizer(torch.optim.SGD(module.parameters(), lr=0.1), CPU, decay=0.9, every_n_steps=2)
    assert optimizer.ema_params == ()
    for index in range(7):
        optimizer.zero_grad()
        (module(tensor["x"]) ** 2).mean().backward()
        optimizer.step()
        for position, parameter in enumerate(module.parameters()):
            torch.testing.assert_close(parameter.data, tensor[f"step{index}/param/{position}"], atol=1e-7, rtol=0)
            torch.testing.assert_close(
                optimizer.ema_params[position], tensor[f"step{index}/ema/{position}"], atol=2e-7, rtol=0
            )


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9999, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_update_is_the_formula(decay: float, dtype: torch.dtype) -> None:
    averages = [torch.randn(5, dtype=torch.float64).float(), torch.randn(2, 3).float()]
    if dtype == torch.float64:
        averages = [a.double() for a in averages]
    weights = tuple(torch.randn_like(a).to(dtype) for a in averages)
    expected = [decay * a.double() + (1 - decay) * w.double() for a, w in zip(averages, weights, strict=True)]
    ema_update(tuple(averages), weights, decay)
    for average, want in zip(averages, expected, strict=True):
        torch.testing.assert_close(average.double(), want, atol=1e-6, rtol=1e-6)
    run_ema_update_cpu(averages, weights, 0.0)
    assert all(torch.equal(a, w.to(a.dtype)) for a, w in zip(averages, weights, strict=True))


def test_updates_of_nothing_and_of_mixed_dtypes() -> None:
    ema_update((), (), 0.5)
    averages = (torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    ema_update(averages, (torch.ones(2), torch.ones(2, dtype=torch.float64)), 0.75)
    assert averages[0].tolist() == [0.25, 0.25]
    assert averages[1].tolist() == [0.25, 0.25]


def test_gradients_do_not_reach_the_average() -> None:
    module = linear()
    optimizer = EMAOptimizer(torch.optim.SGD(module.parameters(), lr=0.1), CPU)
    step(module, optimizer)
    assert not any(average.requires_grad for average in optimizer.ema_params)
    assert module.weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_averages_of_half_precision_weights_move(dtype: torch.dtype) -> None:
    """D9: an average in bfloat16 stays at 1.0, as each of its steps is rounded away."""
    parameter = nn.Parameter(torch.ones(4, dtype=dtype))
    optimizer = EMAOptimizer(torch.optim.SGD([parameter], lr=0.0), CPU, decay=0.999)
    optimizer.step()
    parameter.data.fill_(1.0625)
    for _ in range(1000):
        optimizer.step()
    assert optimizer.ema_params[0].dtype == torch.float32
    expected = 1.0625 - 0.0625 * 0.999**1000
    torch.testing.assert_close(optimizer.ema_params[0], torch.full((4,), expected), atol=1e-4, rtol=0)
    with optimizer.swap_ema_weights():
        assert parameter.dtype == dtype
        torch.testing.assert_close(parameter.data.float(), torch.full((4,), expected), atol=5e-3, rtol=0)
    assert torch.equal(parameter.data, torch.full((4,), 1.0625, dtype=dtype))


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_skips_the_step_and_the_update(fused: bool) -> None:
    """D8: a fused AdamW got an unexpected `grad_scaler`."""
    module = linear()
    inner = torch.optim.AdamW(module.parameters(), lr=0.1, fused=fused)
    optimizer = EMAOptimizer(inner, CPU, decay=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer.step()  # starts the average
    before = [average.clone() for average in optimizer.ema_params]
    weights = [p.detach().clone() for p in module.parameters()]

    scaler.scale(module(torch.full((2, 3), float("inf"))).mean()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(p, w) for p, w in zip(module.parameters(), weights, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(optimizer.ema_params, before, strict=True))
    assert (optimizer.current_step, optimizer.updates, scaler.get_scale()) == (1, 1, 4.0)

    twin = copy.deepcopy(module)
    plain = torch.optim.AdamW(twin.parameters(), lr=0.1, fused=fused)
    plain.load_state_dict(inner.state_dict())
    for each, opt in ((module, optimizer), (twin, plain)):
        each.zero_grad()
        loss = (each(torch.ones(2, 3)) ** 2).mean()
        if opt is optimizer:
            scaler.scale(loss).backward()
            optimizer.step(grad_scaler=scaler)
            scaler.update()
        else:
            loss.backward()
            opt.step()
    assert all(torch.allclose(p, t) for p, t in zip(module.parameters(), twin.parameters(), strict=True))
    assert optimizer.current_step == 2


def test_swap_moves_no_data_and_comes_back() -> None:
    module = linear()
    optimizer = EMAOptimizer(torch.optim.SGD(module.parameters(), lr=0.5), CPU, decay=0.9)
    step(module, optimizer)
    raw, address = module.weight.detach().clone(), module.weight.data_ptr()
    average = optimizer.ema_params[0]
    with optimizer.swap_ema_weights():
        assert module.weight.data_ptr() == average.data_ptr()
        with optimizer.swap_ema_weights():
            assert torch.equal(module.weight.data, average)
        assert torch.equal(module.weight.data, average)
        assert torch.equal(optimizer.state_dict()["ema"][0], average)
        with pytest.raises(RuntimeError, match="averaged weights are in place"):
            optimizer.step()
    assert module.weight.data_ptr() == address
    assert torch.equal(module.weight.data, raw)
    with optimizer.swap_ema_weights(enabled=False):
        assert torch.equal(module.weight.data, raw)
    with pytest.raises(KeyError), optimizer.swap_ema_weights():
        raise KeyError
    assert torch.equal(module.weight.data, raw)
    step(module, optimizer)


def test_swapping_in_inference_mode_leaves_trainable_weights() -> None:
    module = linear()
    optimizer = EMAOptimizer(torch.optim.SGD(module.parameters(), lr=0.5), CPU, decay=0.9)
    step(module, optimizer)
    with torch.inference_mode():
        optimizer.switch_main_parameter_weights()
        module(torch.ones(1, 3))
        optimizer.switch_main_parameter_weights()
    step(module, optimizer)
    assert not module.weight.is_inference()
    assert not optimizer.ema_params[0].is_inference()


def test_swap_before_the_first_step_changes_nothing() -> None:
    module = linear()
    optimizer = EMAOptimizer(torch.optim.SGD(module.parameters(), lr=0.5), CPU)
    raw = module.weight.detach().clone()
    with optimizer.swap_ema_weights():
        assert torch.equal(module.weight.data, raw)


def test_swap_tensors_exchanges_contents() -> None:
    optimizer = EMAOptimizer(torch.optim.SGD(linear().parameters(), lr=0.5), CPU)
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    optimizer.swap_tensors(one, two)
    assert (one.item(), two.item()) == (2.0, 1.0)


def test_it_is_the_wrapped_optimizer_in_all_else() -> None:
    module = linear()
    inner = torch.optim.SGD(module.parameters(), lr=0.5)
    optimizer = EMAOptimizer(inner, CPU)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is inner.param_groups
    assert optimizer.state is inner.state
    assert list(optimizer.all_parameters()) == list(module.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(inner, step_size=1, gamma=0.1)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    step(module, optimizer)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert seen == [1]
    optimizer.zero_grad()
    assert module.weight.grad is None
    assert optimizer.step(closure=lambda: torch.tensor(3.0)) == 3.0
    assert "SGD" in repr(optimizer)


def test_a_new_group_joins_with_its_own_weights() -> None:
    first, second = linear(), linear()
    optimizer = EMAOptimizer(torch.optim.SGD(first.parameters(), lr=0.1), CPU, decay=0.5)
    step(first, optimizer)
    kept = optimizer.ema_params[0]
    optimizer.add_param_group({"params": list(second.parameters())})
    before = second.weight.detach().clone()
    second.weight.grad = torch.ones_like(second.weight)
    optimizer.step()
    assert len(optimizer.ema_params) == 4
    assert optimizer.ema_params[0] is kept
    torch.testing.assert_close(optimizer.ema_params[2], (before + second.weight.data) / 2)


def test_state_round_trip_and_plain_states() -> None:
    module = linear()
    optimizer = EMAOptimizer(torch.optim.AdamW(module.parameters()), CPU, decay=0.7, every_n_steps=2)
    for _ in range(3):
        step(module, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    assert set(state) == {"opt", "ema", "current_step", "decay", "every_n_steps"}
    other = EMAOptimizer(torch.optim.AdamW(copy.deepcopy(module).parameters()), CPU)
    other.load_state_dict(state)
    assert (other.decay, other.every_n_steps, other.current_step, other.updates) == (0.7, 2, 3, 2)
    assert all(torch.equal(a, b) for a, b in zip(other.ema_params, optimizer.ema_params, strict=True))
    assert other.ema_params[0] is not state["ema"][0]
    optimizer.save_original_optimizer_state = True
    plain = optimizer.state_dict()
    assert set(plain) == {"state", "param_groups"}
    other.load_state_dict(plain)
    assert (other.decay, other.current_step) == (0.7, 3)


def test_averages_of_other_shapes_are_refused_when_loading() -> None:
    """D11: reordered groups raised at swap time, or mixed tensors of equal shape."""
    module = linear()
    optimizer = EMAOptimizer(torch.optim.SGD(module.parameters(), lr=0.1), CPU)
    step(module, optimizer)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="averaged tensor 0 has shape"):
        optimizer.load_state_dict({**state, "ema": state["ema"][::-1]})
    with pytest.raises(ValueError, match="holds 1 averaged tensors"):
        optimizer.load_state_dict({**state, "ema": state["ema"][:1]})


def test_buffers_are_averaged_where_their_module_keeps_them() -> None:
    module = nn.BatchNorm1d(3)
    optimizer = EMAOptimizer(torch.optim.SGD(module.parameters(), lr=0.1), CPU, decay=0.5)
    optimizer.track([BufferSlot(module, "running_mean")])
    optimizer.step()
    module.running_mean = torch.full((3,), 4.0)  # another tensor under the same name
    optimizer.step()
    assert optimizer.ema_buffers[0].tolist() == [2.0, 2.0, 2.0]
    with optimizer.swap_ema_weights():
        assert module.running_mean.tolist() == [2.0, 2.0, 2.0]
        module.running_mean += 1.0
    assert module.running_mean.tolist() == [4.0, 4.0, 4.0]
    assert optimizer.ema_buffers[0].tolist() == [2.0, 2.0, 2.0]
    module.running_mean = torch.ones(5)
    optimizer.step()
    assert optimizer.ema_buffers[0].tolist() == [1.0] * 5


class Offloading(EMAOptimizer):
    """Takes the way of averages on the CPU for weights elsewhere, on a machine without an elsewhere."""

    def _make_offload(self) -> OffloadedUpdate:
        return OffloadedUpdate([*self.ema_params, *self.ema_buffers], len(self._parameters), CPU)


def test_a_thread_gives_the_same_average() -> None:
    results = []
    for kind in (EMAOptimizer, Offloading):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        optimizer = kind(torch.optim.SGD(module.parameters(), lr=0.1), CPU, decay=0.9)
        optimizer.track([BufferSlot(module[1], "running_mean")])
        for index in range(5):
            step(module, optimizer, scale=float(index))
        results.append([average.clone() for _, average in optimizer.averages()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_an_error_in_the_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """D13: it was lost, and training went on with an average that no longer moved."""
    import mscore_plugin_ema.update as update

    module = linear()
    optimizer = Offloading(torch.optim.SGD(module.parameters(), lr=0.1), CPU)
    step(module, optimizer)

    def fail(*_: object) -> None:
        raise MemoryError("no memory for the average")

    monkeypatch.setattr(update, "ema_update", fail)
    step(module, optimizer)
    with pytest.raises(MemoryError, match="no memory for the average"):
        step(module, optimizer)
