"""What runs in an environment's process: one environment that answers to messages."""

import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

RESET, STEP, CLOSE = "reset", "step", "close"
ANSWER, FAILURE = "answer", "failure"


def serve(connection: Connection, environment: Any) -> None:
    """Make the environment and answer until the other side is gone.

    Messages are ``(RESET, seed, actions)``, answered by the observation after the actions;
    ``(STEP, action, next_seed)``, answered by (observation, reward, terminated, truncated, final), where
    an episode that ended is followed by one with ``next_seed`` and ``final`` is its last observation and
    info; and ``(CLOSE,)``. An exception is answered by its text, and ends the process.

    Args:
        connection: to the process that steps it.
        environment: the factory.
    """
    # Ctrl-C reaches every process of the terminal; the run's own process decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        env = environment.make()
        while True:
            kind, *message = connection.recv()
            if kind == CLOSE:
                env.close()
                return
            connection.send((ANSWER, _step(env, *message) if kind == STEP else _reset(env, *message)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the other side is gone
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        try:
            connection.send((FAILURE, text))
        except OSError:
            print(text, file=sys.stderr)


def _reset(env: Any, seed: int, actions: list[Any]) -> Any:
    observation, _ = env.reset(seed=seed)
    for action in actions:
        observation, *_ = env.step(action)
    return observation


def _step(env: Any, action: Any, next_seed: int) -> tuple[Any, ...]:
    observation, reward, terminated, truncated, info = env.step(action)
    final = None
    if terminated or truncated:
        final = (observation, info)
        observation, _ = env.reset(seed=next_seed)
    return observation, float(reward), bool(terminated), bool(truncated), final
