"""Linear warm-up is LambdaLR with the same factor, at less cost."""

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from mscore.offline.optimizers import LinearWarmup


def optimizer():
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in (0.1, 0.3)])


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_rates_are_those_of_lambda_lr(steps):
    ours, reference = optimizer(), optimizer()
    warmup = LinearWarmup(ours, steps)
    other = LambdaLR(reference, lambda step: min((step + 1) / max(steps, 1), 1.0))
    for _ in range(7):
        assert [group["lr"] for group in ours.param_groups] == [group["lr"] for group in reference.param_groups]
        assert warmup.get_last_lr() == other.get_last_lr()
        for stepped in (ours, reference, warmup, other):
            stepped.step()


def test_it_resumes_from_its_own_state_and_from_lambda_lrs():
    for make in (LinearWarmup, lambda opt, steps: LambdaLR(opt, lambda step: min((step + 1) / steps, 1.0))):
        first = optimizer()
        saved = make(first, 8)
        for _ in range(3):
            first.step()
            saved.step()
        second = optimizer()
        resumed = LinearWarmup(second, 8)
        second.load_state_dict(first.state_dict())
        resumed.load_state_dict(saved.state_dict())
        second.step()
        resumed.step()
        assert [group["lr"] for group in second.param_groups] == pytest.approx([0.1 * 5 / 8, 0.3 * 5 / 8])


def test_a_group_that_is_added_later_keeps_its_rate():
    opt = optimizer()
    warmup = LinearWarmup(opt, 4)
    opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.5})
    opt.step()
    warmup.step()
    assert [group["lr"] for group in opt.param_groups] == pytest.approx([0.05, 0.15, 0.5])
