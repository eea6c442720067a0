"""Environments from whatever a plugin registers."""

import functools
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from mscore.config import check_parameters, load_config
from mscore.contracts.environment import CallableEnvironment, Environment, GymnasiumEnvironment, as_environment
from mscore.errors import ConfigError, MscoreError


def cart(masscart: float = 1.0, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    env = CartPoleEnv(render_mode=render_mode)
    env.masscart = masscart
    return env


def blind(masscart: float = 1.0) -> gymnasium.Env[Any, Any]:
    return cart(masscart)


def forwarding(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1", **kwargs)


class TestAsEnvironment:
    def test_function(self):
        environment = as_environment(cart, {"masscart": 3.0})
        assert isinstance(environment, CallableEnvironment)
        assert environment.make().masscart == environment().masscart == 3.0
        assert environment.make(render_mode="rgb_array").render_mode == "rgb_array"

    def test_render_mode_is_passed_only_where_it_is_taken(self):
        assert as_environment(blind).make(render_mode="rgb_array").render_mode is None
        assert as_environment(forwarding).make(render_mode="rgb_array").render_mode == "rgb_array"
        assert as_environment(functools.partial(cart, 2.0)).make("rgb_array").render_mode == "rgb_array"

    def test_a_callable_keeps_its_own_render_mode(self):
        def always_rendering(render_mode: str = "rgb_array") -> gymnasium.Env[Any, Any]:
            return cart(render_mode=render_mode)

        assert as_environment(always_rendering).make().render_mode == "rgb_array"

    def test_environment_class(self):
        environment = as_environment(CartPoleEnv, {"sutton_barto_reward": True})
        assert isinstance(environment.make(), CartPoleEnv)
        assert environment.make("rgb_array").render_mode == "rgb_array"

    def test_factory_class_and_factory(self):
        environment = as_environment(GymnasiumEnvironment, {"id": "CartPole-v1"})
        assert environment.make().spec.id == "CartPole-v1"
        assert as_environment(environment) is environment

    @pytest.mark.parametrize("target", [3, "CartPole-v1", None])
    def test_anything_else_is_refused(self, target):
        with pytest.raises(MscoreError, match="is no environment; expected a subclass"):
            as_environment(target)

    def test_a_factory_takes_no_parameters(self):
        with pytest.raises(MscoreError, match="made already takes no parameters"):
            as_environment(GymnasiumEnvironment("CartPole-v1"), {"id": "Acrobot-v1"})


class TestWhatACallableOffers:
    def test_nothing(self):
        environment = as_environment(cart)
        env = environment.make()
        assert environment.expert(env) is None
        assert environment.success(1.0, True, {}) is None
        assert environment.success(1.0, True, {"is_success": np.True_}) is True

    def test_attributes_of_a_function(self):
        def offering(masscart: float = 1.0) -> gymnasium.Env[Any, Any]:
            return cart(masscart)

        offering.expert = lambda env: lambda observation: int(observation[2] > 0)
        offering.success = lambda episode_return, terminated, info: episode_return >= 10
        offering.vector = lambda num_envs, masscart: gymnasium.make_vec("CartPole-v1", num_envs)
        environment = as_environment(offering, {"masscart": 2.0})
        assert environment.expert(environment.make())(np.array([0, 0, 1.0, 0])) == 1
        assert environment.success(9.0, True, {"success": True}) is False
        assert environment.vector(3).num_envs == 3

    def test_only_static_and_class_methods_of_a_class(self):
        class Offering(CartPoleEnv):
            def success(self) -> str:
                return "something else that this environment calls success"

            @staticmethod
            def expert(env: Any) -> Any:
                return lambda observation: 1

        environment = as_environment(Offering)
        assert environment.success(1.0, True, {}) is None
        assert environment.expert(environment.make())(None) == 1

    def test_vector_steps_several(self):
        vector = as_environment(cart).vector(3)
        observation, _ = vector.reset(seed=0)
        assert observation.shape == (3, 4)
        for _ in range(60):
            observation, _, terminated, _, info = vector.step(np.ones(3, np.int64))
            if terminated.any():
                break
        assert "final_obs" in info  # SAME_STEP: the new episode has begun
        assert np.abs(observation[terminated]).max() < 0.06
        vector.close()


def test_a_parameter_may_have_any_name():
    def odd(target: int = 1, self: int = 2) -> gymnasium.Env[Any, Any]:
        return cart(target + self)

    assert as_environment(odd, {"target": 5}).make().masscart == 7


def test_only_make_is_needed():
    class Least(Environment):
        def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
            return cart(render_mode=render_mode)

    assert Least().expert(Least()()) is None


@pytest.mark.parametrize(("section", "name"), [("environment", "id"), ("data", "env"), ("environment", "env")])
def test_a_config_cannot_have_a_package_imported_by_an_environments_name(section, name):
    config = {
        "policy": "recurrent",
        "data": {"use": "minigrid"},
        "objectives": {"bc": {}},
        "environment": {"use": "gymnasium" if name == "id" else "minigrid"},
    }
    config[section][name] = "antigravity:Anything-v0"
    with pytest.raises(ConfigError, match=rf"{section}\.{name}: .*a registered name without a package"):
        check_parameters(load_config(config))
    assert "antigravity" not in sys.modules
