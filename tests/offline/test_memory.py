"""Memory is carried row by row, and forgotten exactly where an episode breaks off."""

import json
from pathlib import Path

import numpy as np
import torch

from mscore.offline.memory import Continuity, Memory
from mscore.testing import TinyPolicy, tiny_batch

GOLDEN = Path(__file__).parents[1] / "golden" / "lightning_memory.npz"


class ListStatePolicy(TinyPolicy):
    """Has the state layout of the peer's policies: a list per block, masks among it."""

    def initial_state(self, batch_size=None):
        lead = () if batch_size is None else (batch_size,)
        return [torch.zeros(*lead, 1, 3, dtype=torch.bool), torch.zeros(*lead, 3, 8), torch.zeros(*lead, 3, 8)]


def step(memory, policy, batch):
    batch, state = memory.prepare(batch, policy)
    latents, out = policy(batch, state)
    memory.keep(out)
    return batch, latents


def test_resets_are_those_of_the_peer():
    golden = np.load(GOLDEN)
    kept_rows = json.loads(bytes(golden["meta_json"]))["kept"]
    memory, policy = Memory(), ListStatePolicy()
    for i, kept in enumerate(kept_rows):
        timestamp = torch.from_numpy(golden[f"step{i}/timestamp"])
        batch, state = memory.prepare({"timestamp": timestamp}, policy)
        state = policy.initial_state(len(kept)) if state is None else state
        for j, leaf in enumerate(state):
            expected = torch.from_numpy(golden[f"step{i}/memory_in/{j}"])
            torch.testing.assert_close(leaf, expected)
        assert batch["first"][:, 0].tolist() == [not keep for keep in kept]
        memory.keep([torch.full_like(leaf, i + 1) for leaf in state])


def test_two_windows_equal_one():
    policy, memory = TinyPolicy(), Memory()
    whole = tiny_batch(length=8)
    halves = [
        {key: value[:, part] if isinstance(value, torch.Tensor) else value for key, value in whole.items()}
        for part in (slice(0, 4), slice(4, 8))
    ]
    latents, _ = policy(whole, None)
    carried = [step(memory, policy, half)[1]["pi_logits"] for half in halves]
    torch.testing.assert_close(torch.cat(carried, dim=1), latents["pi_logits"])


def test_another_episode_with_consecutive_timestamps_begins_anew():
    policy, memory = TinyPolicy(), Memory()
    step(memory, policy, tiny_batch(length=4))
    following = tiny_batch(length=4, start=4, seed=1)
    following["episode"][1] = "somebody else"
    batch, latents = step(memory, policy, following)
    assert batch["first"][:, 0].tolist() == [False, True, False]
    fresh, _ = policy(batch, None)
    torch.testing.assert_close(latents["pi_logits"][1], fresh["pi_logits"][1])
    assert not torch.allclose(latents["pi_logits"][0], fresh["pi_logits"][0])


def strided(start, stride=3):
    batch = tiny_batch(length=4, start=start)
    batch["timestamp"] = start + stride * torch.arange(4).repeat(3, 1)
    return batch


def test_windows_that_skip_frames_go_on_at_their_stride():
    policy, memory = TinyPolicy(), Memory()
    step(memory, policy, strided(0))
    batch, _ = step(memory, policy, strided(12))
    assert batch["first"][:, 0].tolist() == [False] * 3
    for start in (22, 25):  # the next frame, and a window too far
        batch, _ = memory.prepare(strided(start), policy)
        assert batch["first"][:, 0].tolist() == [True] * 3


def test_the_stride_survives_a_checkpoint():
    policy, memory, restored = TinyPolicy(), Memory(), Memory()
    step(memory, policy, strided(0))
    restored.load_state_dict(memory.state_dict())
    batch, _ = restored.prepare(strided(12), policy)
    assert batch["first"][:, 0].tolist() == [False] * 3


def test_an_episode_that_starts_at_the_last_step_goes_on():
    policy, memory = TinyPolicy(), Memory()
    packed = tiny_batch(length=4)
    packed["timestamp"] = torch.tensor([[7, 8, 9, 0]] * 3)
    packed["first"] = torch.tensor([[False, False, False, True]] * 3)
    step(memory, policy, packed)
    batch, _ = memory.prepare(tiny_batch(length=4, start=1), policy)
    assert batch["first"][:, 0].tolist() == [False] * 3


def test_the_datas_own_first_flags_are_not_changed():
    memory, policy = Memory(), TinyPolicy()
    batch = tiny_batch(start=7)
    flags = batch["first"].clone()
    prepared, _ = memory.prepare(batch, policy)
    assert prepared["first"][:, 0].all()
    assert torch.equal(batch["first"], flags)


def test_a_smaller_and_a_larger_batch_keep_the_rows_that_go_on():
    policy, memory = TinyPolicy(), Memory()
    step(memory, policy, tiny_batch(batch_size=3))
    batch, _ = step(memory, policy, tiny_batch(batch_size=2, start=4))
    assert batch["first"][:, 0].tolist() == [False, False]
    batch, _ = step(memory, policy, tiny_batch(batch_size=4, start=8))
    assert batch["first"][:, 0].tolist() == [False, False, True, True]


def test_batches_without_timestamps_begin_anew():
    policy, memory = TinyPolicy(), Memory()
    for _ in range(2):
        batch = tiny_batch()
        del batch["timestamp"], batch["episode"], batch["first"]
        batch, state = memory.prepare(batch, policy)
        assert state is None
        assert batch["first"].tolist() == [[True, False, False, False]] * 3


def test_no_graph_is_carried():
    policy, memory = TinyPolicy(), Memory()
    step(memory, policy, tiny_batch())
    _, state = memory.prepare(tiny_batch(start=4), policy)
    assert not state["sum"].requires_grad


def test_state_survives_a_weights_only_checkpoint(tmp_path):
    policy, memory = TinyPolicy(), Memory()
    step(memory, policy, tiny_batch())
    torch.save(memory.state_dict(), tmp_path / "memory.pt")
    restored = Memory()
    restored.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    again = restored.state_dict()
    assert again["before"] == memory.state_dict()["before"]
    following = tiny_batch(start=4, seed=3)
    _, expected = step(memory, policy, dict(following))
    _, found = step(restored, policy, dict(following))
    assert torch.equal(found["pi_logits"], expected["pi_logits"])


def test_continuity_is_read_before_the_transfer():
    batch = Continuity.attach(tiny_batch())
    attached = Continuity.of(batch)
    batch["timestamp"] = None
    assert Continuity.of(batch) is attached
    assert attached.episodes[0] == "episode-0"
    assert (attached.begins[0], attached.goes_on[0]) == (0, 4)
