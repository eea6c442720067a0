"""KL from a reference policy: values, memory and its resets, what is trained and stored, resume."""

import copy
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from gymnasium import spaces
from mscore_plugin_kl import ReferenceKLCallback
from mscore_plugin_kl import reference as reference_module
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from torch.utils.data import DataLoader

from mscore import Memory, MineLightning, MinePolicy, MscoreError, ObjectiveCallback

WIDTH = 6


class Recurrent(MinePolicy):
    """Its memory is a vector that every frame changes; it counts how often it read."""

    def __init__(self, action_space=None, seed=0):
        torch.manual_seed(seed)
        super().__init__(WIDTH, action_space or spaces.Discrete(4))
        self.input, self.hidden = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.reads = 0

    def initial_state(self, batch_size=None):
        return {"hidden": torch.zeros(*([] if batch_size is None else [batch_size]), WIDTH, device=self.device)}

    def forward(self, input, state_in=None):
        self.reads += 1
        batch, time = input["image"].shape[:2]
        hidden = (state_in or self.initial_state(batch))["hidden"]
        outputs = []
        for t in range(time):
            hidden = torch.where(input["first"][:, t, None], torch.zeros_like(hidden), hidden)
            hidden = torch.tanh(self.input(input["image"][:, t]) + self.hidden(hidden))
            outputs.append(hidden)
        latent = torch.stack(outputs, 1)
        return {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}, {"hidden": hidden}


def window(start, rows=2, time=3, episodes=None, first=None, **more):
    """A batch whose rows begin at the given timestamps."""
    starts = torch.tensor([start] * rows if isinstance(start, int) else start)
    timestamp = starts[:, None] + torch.arange(time)
    episodes = episodes or [f"episode-{i}" for i in range(rows)]
    generator = torch.Generator().manual_seed(int(timestamp.sum()) + 7 * sum(map(ord, "".join(episodes))))
    batch = {"image": torch.randn(rows, time, WIDTH, generator=generator), "timestamp": timestamp, "episode": episodes}
    if first is not None:
        batch["first"] = first
    return {**batch, **more}


def step(objective, policy, memory, batch, step_name="train", batch_idx=1):
    """One step as the trainer takes it."""
    batch = objective.before_step(batch, batch_idx, step_name)
    batch, state = memory.prepare(batch, policy)
    latents, state = policy(batch, state)
    memory.keep(state)
    return objective(batch, batch_idx, step_name, latents, policy)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.MultiDiscrete([3, 3]),
        spaces.Box(-1.0, 1.0, (2,)),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1.0, 1.0, (2,))}),
    ],
    ids=["discrete", "multidiscrete", "box", "dict"],
)
def test_values_are_torchs(space, direction):
    policy, reference = Recurrent(space, seed=1), Recurrent(space, seed=2)
    objective = ReferenceKLCallback(reference_policy=reference, weight=0.3, direction=direction)
    batch = window(0)
    result = step(objective, policy, Memory(), batch)

    def divergence(part, ours, theirs):
        if isinstance(part, spaces.Dict):
            return sum(divergence(part[key], ours[key], theirs[key]) for key in part)
        if isinstance(part, spaces.Box):
            ours, theirs = (Normal(x[..., 0], x[..., 1].exp()) for x in (ours, theirs))
        else:
            ours, theirs = (Categorical(logits=x) for x in (ours, theirs))
        p, q = (ours, theirs) if direction == "reverse" else (theirs, ours)
        inner = len(p.batch_shape) - 2
        return kl_divergence(Independent(p, inner), Independent(q, inner))

    batch["first"] = torch.zeros(2, 3, dtype=torch.bool)
    ours, theirs = (each(batch)[0]["pi_logits"] for each in (policy, reference))
    expected = divergence(space, ours, theirs).mean().item()
    assert expected > 1e-4
    assert result["kl_div"].item() == pytest.approx(expected, rel=1e-4)
    assert result["loss"].item() == pytest.approx(0.3 * expected, rel=1e-4)
    assert result["kl_weight"] == 0.3


def test_the_policy_itself_as_reference_gives_zero_whatever_happens_to_the_rows():
    policy = Recurrent()
    objective, memory = ReferenceKLCallback(reference_policy=policy), Memory()
    inside = torch.tensor([[False, True, False], [False, False, False]])
    batches = [
        window(0),
        window(3),  # both rows go on
        window([6, 0]),  # the second begins anew by its timestamp
        window([9, 3], first=inside),  # an episode begins inside the window
        window([12, 6], episodes=["another", "episode-1"]),  # the first row has changed its episode
        window([15, 9, 0], rows=3, episodes=["another", "episode-1", "new"]),  # one row more
        window([18], rows=1, episodes=["another"]),
        {"image": torch.randn(2, 3, WIDTH)},  # nothing that tells continuity
    ]
    for batch in batches:
        result = step(objective, policy, memory, batch)
        assert result["kl_div"].item() == pytest.approx(0, abs=1e-6)
    result["loss"].backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-6 for p in policy.parameters())


def test_the_reference_remembers():
    policy, reference = Recurrent(seed=1), Recurrent(seed=2)
    going_on, fresh = (ReferenceKLCallback(reference_policy=reference) for _ in range(2))
    going_on.reference_logits(window(0), "train")
    logits = going_on.reference_logits(window(3), "train")
    assert not torch.allclose(logits, fresh.reference_logits(window(3), "train"))
    whole = window(0, time=6)
    whole["image"] = torch.cat([window(0)["image"], window(3)["image"]], 1)
    expected = ReferenceKLCallback(reference_policy=reference).reference_logits(whole, "train")[:, 3:]
    torch.testing.assert_close(logits, expected)
    assert policy.reads == 0


def test_validation_has_a_memory_of_its_own_that_ends_with_it():
    policy = Recurrent()
    objective = ReferenceKLCallback(reference_policy=Recurrent(seed=2))
    train = Memory()
    step(objective, policy, train, window(0))
    first = step(objective, policy, Memory(), window(0), "val", batch_idx=0)["kl_div"]
    step(objective, policy, Memory(), window(3), "val", batch_idx=1)
    # The next validation begins where the last one happened to end, and must not go on from there.
    again = step(objective, policy, Memory(), window(6), "val", batch_idx=0)["kl_div"]
    alone = ReferenceKLCallback(reference_policy=Recurrent(seed=2))
    assert again.item() == step(alone, policy, Memory(), window(6), "val", batch_idx=0)["kl_div"].item()
    assert first.item() != again.item()
    continued = objective.reference_logits(window(3), "train")
    restarted = ReferenceKLCallback(reference_policy=Recurrent(seed=2)).reference_logits(window(3), "train")
    assert not torch.allclose(continued, restarted)


def test_masked_frames_do_not_count():
    policy, reference = Recurrent(seed=1), Recurrent(seed=2)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    masked = step(ReferenceKLCallback(reference_policy=reference), policy, Memory(), window(0, mask=mask))
    batch = window(0, rows=2, time=3)
    batch = {"image": batch["image"][:1, :2], "timestamp": batch["timestamp"][:1, :2], "episode": ["episode-0"]}
    cut = step(ReferenceKLCallback(reference_policy=reference), policy, Memory(), batch)
    assert masked["kl_div"].item() == pytest.approx(cut["kl_div"].item(), rel=1e-5)


def test_nothing_valid_gives_zero_with_a_graph():
    policy = Recurrent(seed=1)
    objective = ReferenceKLCallback(reference_policy=Recurrent(seed=2))
    result = step(objective, policy, Memory(), window(0, mask=torch.zeros(2, 3, dtype=torch.bool)))
    result["loss"].backward()
    assert result["loss"].item() == 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in policy.parameters())


def test_the_gradient_pulls_towards_the_reference_and_leaves_it_alone():
    policy, reference = Recurrent(seed=1), Recurrent(seed=2)
    objective = ReferenceKLCallback(reference_policy=reference)
    before = copy.deepcopy(objective.reference.state_dict())
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    values = []
    for _ in range(30):
        result = step(objective, policy, Memory(), window(0))
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        values.append(result["kl_div"].item())
    assert values[-1] < 0.2 * values[0]
    assert all(torch.equal(value, before[key]) for key, value in objective.reference.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in objective.reference.parameters())


def test_the_given_policy_stays_trainable_and_in_its_mode():
    policy = Recurrent().train()
    trainable = [p.requires_grad for p in policy.parameters()]
    objective = ReferenceKLCallback(reference_policy=policy)
    assert policy.training
    assert [p.requires_grad for p in policy.parameters()] == trainable
    assert any(trainable)
    assert not objective.reference.training


def test_one_fragment_can_be_evaluated_many_times_in_any_rows():
    """As PPO does: the reference reads a fragment once, minibatches of its rows come in any order."""
    policy, reference = Recurrent(seed=1), Recurrent(seed=2)
    objective = ReferenceKLCallback(reference_policy=reference)
    objective.before_step(window(0), 0, "train")
    fragment = objective.before_step(window(3), 1, "train")
    assert objective.reference.reads == 2
    fragment["first"] = torch.zeros(2, 3, dtype=torch.bool)
    whole = objective(fragment, 1, "train", policy(fragment)[0], policy)["kl_div"].item()
    for _ in range(2):
        values = []
        for row in (1, 0):
            part = {key: value[row : row + 1] for key, value in fragment.items()}
            values.append(objective(part, 1, "train", policy(part)[0], policy)["kl_div"].item())
        assert sum(values) / 2 == pytest.approx(whole, rel=1e-5)
    assert objective.reference.reads == 2


def test_the_weight_decays_with_every_batch_that_is_read_and_goes_on_from_a_checkpoint():
    policy = Recurrent()
    objective = ReferenceKLCallback(reference_policy=Recurrent(seed=1), weight=0.8, decay=0.5)
    memory = Memory()
    weights = [step(objective, policy, memory, window(3 * i))["kl_weight"] for i in range(3)]
    assert weights == pytest.approx([0.8, 0.4, 0.2])
    other = ReferenceKLCallback(reference_policy=Recurrent(seed=1), weight=0.8, decay=0.5)
    other.load_state_dict(objective.state_dict())
    result = step(other, policy, memory, window(9))
    assert result["kl_weight"] == pytest.approx(0.1)
    assert float(result["loss"]) == pytest.approx(0.1 * float(result["kl_div"]))


def test_without_a_source_a_runs_init_from_is_the_reference(monkeypatch):
    loaded = []
    monkeypatch.setattr(reference_module, "load_policy", lambda source: loaded.append(source) or Recurrent())
    run = SimpleNamespace(config=SimpleNamespace(init_from="runs/cloned"))
    ReferenceKLCallback(run=run)
    ReferenceKLCallback(source="elsewhere", run=run)
    assert loaded == ["runs/cloned", "elsewhere"]
    with pytest.raises(MscoreError, match="needs one reference"):
        ReferenceKLCallback(run=SimpleNamespace(config=SimpleNamespace(init_from=None)))


def test_two_references_do_not_mix():
    policy = Recurrent(seed=1)
    objectives = [ReferenceKLCallback(reference_policy=Recurrent(seed=seed)) for seed in (1, 2)]
    batch = window(0)
    for objective in objectives:
        batch = objective.before_step(batch, 1, "train")
    batch, state = Memory().prepare(batch, policy)
    latents, _ = policy(batch, state)
    near, far = (objective(batch, 1, "train", latents, policy)["kl_div"].item() for objective in objectives)
    assert near == pytest.approx(0, abs=1e-6)
    assert far > 1e-3


def test_called_without_before_step_it_reads_the_batch_itself():
    policy = Recurrent()
    objective = ReferenceKLCallback(reference_policy=policy)
    batch, _ = Memory().prepare(window(0), policy)
    result = objective(batch, 0, "train", policy(batch)[0], policy)
    assert result["kl_div"].item() == pytest.approx(0, abs=1e-6)


def test_bfloat16_autocast():
    policy = Recurrent(seed=1)
    objective = ReferenceKLCallback(reference_policy=Recurrent(seed=2))
    exact = step(objective, policy, Memory(), window(0))["kl_div"].item()
    objective = ReferenceKLCallback(reference_policy=Recurrent(seed=2))
    with torch.autocast("cpu", torch.bfloat16):
        result = step(objective, policy, Memory(), window(0))
    result["loss"].backward()
    assert result["loss"].dtype == torch.float32
    assert result["kl_div"].item() == pytest.approx(exact, rel=0.1)


def test_observations_in_half_precision_meet_a_reference_in_its_own():
    objective = ReferenceKLCallback(reference_policy=Recurrent(seed=2))
    batch = window(0)
    exact = ReferenceKLCallback(reference_policy=Recurrent(seed=2)).reference_logits(batch, "train")
    batch["image"] = batch["image"].bfloat16()
    torch.testing.assert_close(objective.reference_logits(batch, "train"), exact, atol=0.05, rtol=0.05)


class TestMistakes:
    def test_another_action_space(self):
        objective = ReferenceKLCallback(reference_policy=Recurrent(spaces.Discrete(5)))
        with pytest.raises(MscoreError, match=r"acts in Discrete\(5\), the trained policy in Discrete\(4\)"):
            step(objective, Recurrent(), Memory(), window(0))

    @pytest.mark.parametrize("both", [True, False])
    def test_no_reference_or_two(self, both):
        arguments = {"source": "runs/x", "reference_policy": Recurrent()} if both else {}
        with pytest.raises(MscoreError, match="needs one reference: `source`"):
            ReferenceKLCallback(**arguments)

    def test_another_direction(self):
        with pytest.raises(ValueError, match="'sideways', expected 'forward' or 'reverse'"):
            ReferenceKLCallback(reference_policy=Recurrent(), direction="sideways")


def test_the_source_is_loaded_as_init_from_is(monkeypatch):
    asked = []

    def load(source):
        asked.append(source)
        return Recurrent(seed=2).eval()

    monkeypatch.setattr(reference_module, "load_policy", load)
    objective = ReferenceKLCallback(source="runs/cloned")
    assert asked == ["runs/cloned"]
    assert all(not p.requires_grad for p in objective.reference.parameters())


class Likelihood(ObjectiveCallback):
    """A loss that the reference has no part in."""

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        return {"loss": -mine_policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"]).mean()}


class Windows(torch.utils.data.Dataset):
    """Two episodes, window after window from one of them on, each item one batch."""

    def __init__(self, begin):
        self.begin = begin

    def __len__(self):
        return 12

    def __getitem__(self, index):
        place = self.begin + index
        return window(3 * place, agent_action=torch.full((2, 3), place % 4))


def fit(tmp_path, steps, begin=0, ckpt_path=None):
    objectives = [Likelihood(), ReferenceKLCallback(reference_policy=Recurrent(seed=5), weight=0.5)]
    module = MineLightning(Recurrent(seed=1), objectives, learning_rate=1e-2, warmup_steps=1)
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Windows(begin), batch_size=None), ckpt_path=ckpt_path)
    return module, trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference-kl")
    whole, _ = fit(folder, 8)
    half, trainer = fit(folder, 4)
    trainer.save_checkpoint(folder / "half.ckpt")
    return folder, whole, half


def test_its_weights_are_not_in_the_module_or_its_checkpoints(trained):
    folder, module, _ = trained
    policy_only = sum(p.numel() for p in module.mine_policy.parameters())
    assert sum(p.numel() for p in module.parameters()) == policy_only
    checkpoint = torch.load(folder / "half.ckpt", weights_only=True)
    assert all(key.startswith("mine_policy.") for key in checkpoint["state_dict"])


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_a_resumed_fit_goes_on_exactly(trained):
    folder, whole, half = trained
    resumed, _ = fit(folder, 8, begin=4, ckpt_path=folder / "half.ckpt")
    for (name, a), b in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), half.parameters(), strict=True))
