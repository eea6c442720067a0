"""Action heads: every space's distribution against torch.distributions, sampling, masks, dtypes, mistakes."""

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Bernoulli, Categorical, Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from mscore import MscoreError, make_action_head, minecraft_action_space
from mscore.heads.action import MASKED_LOGIT, DictHead

WIDTH = 8

SPACES = {
    "discrete": spaces.Discrete(4),
    "discrete-start": spaces.Discrete(3, start=-1),
    "multidiscrete": spaces.MultiDiscrete([3, 3]),
    "multidiscrete-ragged": spaces.MultiDiscrete([2, 4, 3]),
    "multidiscrete-2d": spaces.MultiDiscrete(np.array([[2, 3], [3, 2]])),
    "multidiscrete-start": spaces.MultiDiscrete([2, 3], start=[5, -1]),
    "multibinary": spaces.MultiBinary(3),
    "multibinary-2d": spaces.MultiBinary([2, 2]),
    "box": spaces.Box(-1.0, 1.0, (2,)),
    "box-2d": spaces.Box(-1.0, 1.0, (2, 3), np.float64),
    "box-scalar": spaces.Box(-1.0, 1.0, ()),
    "dict": spaces.Dict(
        {
            "forward": spaces.Discrete(2),
            "hotbar.1": spaces.MultiBinary(2),
            "inner": spaces.Dict({"aim": spaces.MultiDiscrete([2, 3]), "training": spaces.Discrete(3)}),
        }
    ),
}
FINITE = [name for name in SPACES if not name.startswith("box")]


def make(space, **arguments):
    torch.manual_seed(0)
    head = make_action_head(space, WIDTH, **arguments)
    # Far from uniform, so that a wrong formula shows.
    for parameter in head.parameters():
        parameter.data.mul_(3.0)
    return head


def latent(*leading, seed=1):
    return torch.randn(*(leading or (2, 3)), WIDTH, generator=torch.Generator().manual_seed(seed))


def all_actions(space):
    """Every action of a finite space, as tensors without leading dimensions."""
    match space:
        case spaces.Discrete():
            return [torch.tensor(int(space.start) + i) for i in range(int(space.n))]
        case spaces.MultiDiscrete():
            rows = itertools.product(*(range(n) for n in space.nvec.flat))
            return [torch.tensor(row).reshape(space.nvec.shape) + torch.as_tensor(space.start) for row in rows]
        case spaces.MultiBinary():
            rows = itertools.product((0, 1), repeat=math.prod(space.shape))
            return [torch.tensor(row, dtype=torch.int8).reshape(space.shape) for row in rows]
        case spaces.Dict():
            parts = [[(key, action) for action in all_actions(part)] for key, part in space.spaces.items()]
            return [dict(row) for row in itertools.product(*parts)]


def spread(action, *leading):
    """One action for every place of the leading dimensions."""
    if isinstance(action, dict):
        return {key: spread(value, *leading) for key, value in action.items()}
    return action.expand(*leading, *action.shape)


def torch_distribution(space, logits):
    """torch's distribution for the logits of a space that is not a Dict."""
    match space:
        case spaces.Discrete():
            return Categorical(logits=logits)
        case spaces.MultiDiscrete():
            return Independent(Categorical(logits=logits), space.nvec.ndim)
        case spaces.MultiBinary():
            return Independent(Bernoulli(logits=logits), len(space.shape))
        case spaces.Box():
            return Independent(Normal(logits[..., 0], logits[..., 1].exp()), len(space.shape))


def summed(space, compute, *logits):
    """A quantity of the parts of a space, added up."""
    if isinstance(space, spaces.Dict):
        return sum(summed(part, compute, *(each[key] for each in logits)) for key, part in space.spaces.items())
    return compute(*(torch_distribution(space, each) for each in logits))


@pytest.mark.parametrize("name", FINITE)
def test_probabilities_add_up_to_one(name):
    head = make(SPACES[name])
    logits = head(latent())
    total = sum(head.logprob(spread(action, 2, 3), logits).exp() for action in all_actions(SPACES[name]))
    torch.testing.assert_close(total, torch.ones(2, 3))


def test_a_density_integrates_to_one():
    head = make(SPACES["box"])
    logits = head(latent(1, 1))
    axis = torch.linspace(-40, 40, 1601)
    points = torch.cartesian_prod(axis, axis)[:, None]
    density = head.logprob(points, logits.expand(len(points), 1, 2, 2)).exp()
    assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("name", SPACES)
def test_entropy_and_divergence_are_torchs(name):
    space, head = SPACES[name], make(SPACES[name])
    q, p = head(latent(seed=1)), head(latent(seed=2))
    torch.testing.assert_close(head.entropy(q), summed(space, lambda d: d.entropy(), q), rtol=1e-4, atol=1e-5)
    divergence = head.kl_divergence(q, p)
    assert divergence.shape == (2, 3, 1)
    assert (divergence > 0).all()
    torch.testing.assert_close(divergence[..., 0], summed(space, torch_kl, q, p), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head.kl_divergence(q, q), torch.zeros(2, 3, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SPACES)
def test_logprob_of_samples_is_torchs(name):
    space, head = SPACES[name], make(SPACES[name])
    logits = head(latent())
    action = head.sample(logits)

    def expected(space, action, logits):
        if isinstance(space, spaces.Dict):
            return sum(expected(part, action[key], logits[key]) for key, part in space.spaces.items())
        start = getattr(space, "start", 0)
        value = action - torch.as_tensor(start) if np.any(start) else action
        return torch_distribution(space, logits).log_prob(
            value.float() if isinstance(space, spaces.MultiBinary) else value
        )

    torch.testing.assert_close(head.logprob(action, logits), expected(space, action, logits), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SPACES)
def test_samples_and_modes_lie_in_the_space(name):
    space, head = SPACES[name], make(SPACES[name])
    logits = head(latent(4, 5))
    for deterministic in (False, True):
        action = head.sample(logits, deterministic)
        for row, step in itertools.product(range(4), range(5)):
            assert _inside(space, _at(action, row, step))


def _at(action, row, step):
    if isinstance(action, dict):
        return {key: _at(value, row, step) for key, value in action.items()}
    return action[row, step].detach().numpy()


def _inside(space, action):
    if isinstance(space, spaces.Dict):
        return set(action) == set(space.spaces) and all(_inside(part, action[k]) for k, part in space.spaces.items())
    if isinstance(space, spaces.Box):
        # A Gaussian may leave the bounds; the shape must fit all the same.
        return action.shape == space.shape
    return space.contains(action.astype(space.dtype) if action.shape else space.dtype.type(action))


@pytest.mark.parametrize("name", FINITE)
def test_the_mode_is_the_most_probable_action(name):
    head = make(SPACES[name])
    logits = head(latent())
    best = torch.stack([head.logprob(spread(a, 2, 3), logits) for a in all_actions(SPACES[name])]).amax(0)
    torch.testing.assert_close(head.logprob(head.sample(logits, deterministic=True), logits), best)


def test_the_mode_of_a_gaussian_is_its_mean():
    head = make(SPACES["box"])
    logits = head(latent())
    torch.testing.assert_close(head.sample(logits, deterministic=True), logits[..., 0], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["discrete-start", "multidiscrete-ragged", "multibinary", "dict"])
def test_sampling_frequencies_are_the_probabilities(name):
    head, count = make(SPACES[name]), 8_000
    logits = head(latent(1, 1))
    many = _repeated(logits, count)
    samples = head.sample(many)
    for action in all_actions(SPACES[name]):
        probability = head.logprob(spread(action, 1, 1), logits).exp().item()
        frequency = _equal(samples, action).float().mean().item()
        deviation = math.sqrt(probability * (1 - probability) / count)
        assert abs(frequency - probability) < 5 * deviation + 1e-3


def _repeated(logits, count):
    if isinstance(logits, dict):
        return {key: _repeated(value, count) for key, value in logits.items()}
    return logits.expand(count, *logits.shape[1:])


def _equal(samples, action):
    if isinstance(action, dict):
        return torch.stack([_equal(samples[key], value) for key, value in action.items()]).all(0)
    same = samples == action
    return same.flatten(2).all(-1) if same.ndim > 2 else same


def test_gaussian_samples_have_its_moments():
    head = make(SPACES["box"])
    logits = head(latent(1, 1))
    samples = head.sample(logits.expand(50_000, 1, 2, 2))
    torch.testing.assert_close(samples.mean(0)[0], logits[0, 0, :, 0], rtol=0, atol=0.02)
    torch.testing.assert_close(samples.std(0)[0], logits[0, 0, :, 1].exp(), rtol=0.02, atol=0)


def test_nucleus_sampling_never_leaves_the_nucleus():
    head = make_action_head(spaces.Discrete(4), WIDTH, nucleus_prob=0.85)
    logits = torch.tensor([0.5, 0.05, 0.3, 0.15]).log()
    samples = head.sample(logits.expand(4000, 1, 4))
    # 0.5 + 0.3 < 0.85, so the entry that crosses it (3) is kept, and 1 is not.
    frequencies = torch.bincount(samples.flatten(), minlength=4) / 4000
    assert frequencies[1] == 0
    torch.testing.assert_close(frequencies, torch.tensor([0.5, 0.0, 0.3, 0.15]) / 0.95, rtol=0, atol=0.04)
    certain = torch.tensor([0.9, 0.04, 0.03, 0.03]).log()
    assert (head.sample(certain.expand(500, 1, 4)) == 0).all()


def test_a_ragged_space_gives_no_probability_to_entries_that_do_not_exist():
    head = make(spaces.MultiDiscrete([2, 4, 3]))
    logits = head(latent())
    assert logits.shape == (2, 3, 3, 4)
    assert (logits[..., 0, 2:].exp() == 0).all()
    assert torch.isfinite(head.entropy(logits)).all()
    assert torch.isfinite(head.kl_divergence(logits, head(latent(seed=2)))).all()
    (head.entropy(logits).sum() + head.kl_divergence(logits, head(latent(seed=2))).sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_the_logits(temperature):
    plain, scaled = make(spaces.Discrete(4)), make(spaces.Discrete(4), temperature=temperature)
    expected = (plain.linear_layer(latent()) / temperature).log_softmax(-1)
    torch.testing.assert_close(scaled(latent()), expected)
    plain, scaled = make(spaces.MultiBinary(3)), make(spaces.MultiBinary(3), temperature=temperature)
    torch.testing.assert_close(scaled(latent()), plain(latent()) / temperature)
    plain, scaled = make(SPACES["box"]), make(SPACES["box"], temperature=temperature)
    torch.testing.assert_close(scaled(latent())[..., 1].exp(), plain(latent())[..., 1].exp() * temperature)
    torch.testing.assert_close(scaled(latent())[..., 0], plain(latent())[..., 0])


class TestMasks:
    def test_a_forbidden_action_is_never_drawn(self):
        head = make(spaces.Discrete(4))
        mask = torch.tensor([True, False, True, False]).expand(2, 3, 4)
        logits = head(latent(), mask)
        raw = torch.where(mask, head.linear_layer(latent()), torch.tensor(MASKED_LOGIT))
        torch.testing.assert_close(logits, raw.log_softmax(-1))
        assert set(head.sample(logits.expand(200, 2, 3, 4)).flatten().tolist()) <= {0, 2}

    def test_in_a_ragged_space(self):
        head = make(spaces.MultiDiscrete([2, 3]))
        mask = torch.tensor([[True, True, True], [False, True, True]]).expand(2, 3, 2, 3)
        samples = head.sample(head(latent(), mask).expand(200, 2, 3, 2, 3))
        assert samples[..., 0].max() == 1
        assert samples[..., 1].min() == 1

    def test_of_coins(self):
        head = make(spaces.MultiBinary(3))
        mask = torch.tensor([True, False, True]).expand(2, 3, 3)
        assert (head.sample(head(latent(), mask).expand(200, 2, 3, 3))[..., 1] == 0).all()

    def test_of_some_keys_of_a_dict(self):
        head = make(SPACES["dict"])
        logits = head(latent(), {"forward": torch.tensor([True, False]).expand(2, 3, 2)})
        assert (head.sample(logits, True)["forward"] == 0).all()
        torch.testing.assert_close(logits["hotbar.1"], head(latent())["hotbar.1"])

    def test_a_continuous_action_cannot_be_masked(self):
        with pytest.raises(MscoreError, match="cannot be masked"):
            make(SPACES["box"])(latent(), torch.ones(2, 3, 2, 2, dtype=torch.bool))


class TestDict:
    def test_parts_by_key_and_summed(self):
        head = make(SPACES["dict"])
        logits = head(latent())
        action = head.sample(logits)
        parts = head.logprob(action, logits, return_dict=True)
        assert list(parts) == ["forward", "hotbar.1", "inner"]
        torch.testing.assert_close(sum(parts.values()), head.logprob(action, logits))
        entropies = head.entropy(logits, return_dict=True)
        torch.testing.assert_close(sum(entropies.values()), head.entropy(logits))

    @pytest.mark.parametrize("key", ["hotbar.1", "forward", "training", "_module_names", "items", "T_destination"])
    def test_any_key_can_name_a_part(self, key):
        space = spaces.Dict({key: spaces.Discrete(3), "other": spaces.Discrete(2)})
        head = make(space)
        logits = head(latent())
        assert set(logits) == {key, "other"}
        assert head.logprob(head.sample(logits), logits).shape == (2, 3)
        again = make_action_head(space, WIDTH)
        again.load_state_dict(head.state_dict())
        torch.testing.assert_close(again(latent())[key], logits[key])

    def test_keys_that_look_alike_do_not_share_a_head(self):
        head = make(spaces.Dict({"a.b": spaces.Discrete(2), "a__b": spaces.Discrete(3)}))
        assert {key: value.shape[-1] for key, value in head(latent()).items()} == {"a.b": 2, "a__b": 3}

    def test_minecraft_has_vpts_layout(self):
        head = make_action_head(minecraft_action_space(), 4)
        assert isinstance(head, DictHead)
        assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == {
            "buttons.linear_layer.weight": (8641, 4),
            "buttons.linear_layer.bias": (8641,),
            "camera.linear_layer.weight": (121, 4),
            "camera.linear_layer.bias": (121,),
        }
        assert [key for key, _ in head.items()] == ["buttons", "camera"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SPACES)
def test_under_autocast_logits_are_float32(name, dtype):
    head = make(SPACES[name])
    exact = head(latent())
    with torch.autocast("cpu", dtype):
        logits = head(latent())
        logprob = head.logprob(head.sample(logits), logits)
    assert logprob.dtype == torch.float32
    for ours, theirs in zip(_leaves(logits), _leaves(exact), strict=True):
        assert ours.dtype == torch.float32
        present = theirs > -1e6
        torch.testing.assert_close(ours[present], theirs[present], rtol=0.05, atol=0.1)
    total = logprob.mean() + head.entropy(logits).mean()
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def _leaves(tree):
    return [leaf for value in tree.values() for leaf in _leaves(value)] if isinstance(tree, dict) else [tree]


@pytest.mark.parametrize("name", SPACES)
def test_half_precision_weights(name):
    head = make(SPACES[name]).bfloat16()
    logits = head(latent().bfloat16())
    assert all(leaf.dtype == torch.float32 for leaf in _leaves(logits))
    assert torch.isfinite(head.logprob(head.sample(logits), logits)).all()


@pytest.mark.parametrize("name", SPACES)
def test_entropy_does_not_change_the_logits(name):
    head = make(SPACES[name])
    logits = head(latent())
    for detached in (False, True):
        given = _detached(logits) if detached else logits
        before = [leaf.detach().clone() for leaf in _leaves(given)]
        head.entropy(given)
        assert all(torch.equal(a, b) for a, b in zip(before, _leaves(given), strict=True))


def _detached(tree):
    return {k: _detached(v) for k, v in tree.items()} if isinstance(tree, dict) else tree.detach()


class TestMistakes:
    @pytest.mark.parametrize(("space", "action", "shown"), [
        (spaces.Discrete(4), torch.full((2, 3), 4), r"action of 4 .* Discrete\(4\)"),
        (spaces.Discrete(4), torch.full((2, 3), -1), r"action of -1 .* Discrete\(4\)"),
        (spaces.Discrete(3, start=2), torch.full((2, 3), 5), r"action of 5 .* Discrete\(3, start=2\)"),
        (spaces.Discrete(3, start=2), torch.full((2, 3), 1), r"action of 1 .* Discrete\(3, start=2\)"),
        (spaces.MultiDiscrete([2, 4]), torch.tensor([1, 4]).expand(2, 3, 2), r"action of 4 .* MultiDiscrete"),
        # 2 fits the second component, not the first: the padding of a ragged space must not take it in.
        (spaces.MultiDiscrete([2, 4]), torch.tensor([2, 0]).expand(2, 3, 2), r"action of 2 .* MultiDiscrete"),
        (spaces.MultiDiscrete([2, 3], start=[5, -1]), torch.tensor([4, 0]).expand(2, 3, 2), "action of 4"),
        (spaces.MultiBinary(2), torch.tensor([0, 2]).expand(2, 3, 2), "outside"),
        (spaces.Box(-1.0, 1.0, (2,)), torch.tensor([0.0, math.nan]).expand(2, 3, 2), "NaN or infinity"),
    ])  # fmt: skip
    def test_an_action_outside_its_space(self, space, action, shown):
        head = make(space)
        with pytest.raises(MscoreError, match=shown):
            head.logprob(action, head(latent()))

    @pytest.mark.parametrize("name", ["discrete", "multidiscrete", "multibinary", "box", "box-scalar"])
    @pytest.mark.parametrize("change", ["more", "less"])
    def test_an_action_of_another_shape(self, name, change):
        head = make(SPACES[name])
        logits = head(latent(2, 2))
        action = head.sample(logits)
        action = action.unsqueeze(-1) if change == "more" else action[..., 0]
        with pytest.raises(MscoreError, match=r"shape \(2.*\) .* expected \(2"):
            head.logprob(action, logits)

    def test_a_missing_key(self):
        head = make(SPACES["dict"])
        logits = head(latent())
        action = head.sample(logits)
        del action["inner"]["aim"]
        with pytest.raises(MscoreError, match=r"agent_action\['inner'\]: .* lack the key 'aim'"):
            head.logprob(action, logits)

    def test_a_wrong_part_is_named(self):
        head = make(SPACES["dict"])
        logits = head(latent())
        action = {**head.sample(logits), "forward": torch.full((2, 3), 7)}
        with pytest.raises(MscoreError, match=r"agent_action\['forward'\]: an action of 7"):
            head.logprob(action, logits)

    @pytest.mark.parametrize(
        "space", [spaces.Text(5), spaces.Box(0, 255, (3,), np.uint8), spaces.Tuple([spaces.Discrete(2)])]
    )
    def test_a_space_without_a_head(self, space):
        with pytest.raises(MscoreError, match="no action head for the space"):
            make_action_head(space, WIDTH)


@pytest.mark.parametrize("name", SPACES)
def test_any_leading_dimensions(name):
    head = make(SPACES[name])
    for leading in ((5,), (2, 3), (2, 3, 4), (0, 3)):
        logits = head(latent(*leading))
        assert head.logprob(head.sample(logits), logits).shape == leading
        assert head.entropy(logits).shape == leading
        assert head.kl_divergence(logits, logits).shape == (*leading, 1)


def test_a_gaussians_deviation_comes_back_from_beyond_its_range():
    head = make_action_head(spaces.Box(-1, 1, (2,)), 4)
    with torch.no_grad():
        head.log_std.fill_(-9.0)
    logits = head(torch.zeros(1, 1, 4))
    assert logits[..., 1].tolist() == [[[-5.0, -5.0]]]
    (-head.logprob(torch.ones(1, 1, 2), logits)).sum().backward()
    assert (head.log_std.grad < 0).all()
