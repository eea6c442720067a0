"""Staleness and reuse in the buffer, held against a model that counts by hand."""

from dataclasses import dataclass

import numpy as np
import pytest
from mscore_plugin_ppo.rollouts.buffer import FragmentBuffer


@dataclass
class Some:
    """Fragments as the buffer sees them."""

    version: int
    rows: int
    session: str = "s"
    uses: int = 0

    def __len__(self):
        return self.rows


class Model:
    """What there is, by hand: (fragments, uses) in the order in which they are due."""

    def __init__(self, staleness, reuse):
        self.staleness, self.reuse, self.version, self.session = staleness, reuse, 1, "s"
        self.held, self.dropped = [], 0

    def fresh(self, one):
        return one.session == self.session and self.version - one.version <= self.staleness

    def update(self, session, version):
        self.session, self.version = session, version
        self.dropped += sum(one.rows for one, _ in self.held if not self.fresh(one))
        self.held = [(one, uses) for one, uses in self.held if self.fresh(one)]

    def add(self, one):
        if self.fresh(one):
            self.held.append((one, 0))
        else:
            self.dropped += one.rows

    def take(self, rows):
        taken = []
        while sum(one.rows for one, _ in taken) < rows:
            taken.append(self.held.pop(0))
        self.held += [(one, uses + 1) for one, uses in taken if uses + 1 < self.reuse]
        return [one for one, _ in taken]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_and_handed_out_is_what_a_model_says(seed):
    random = np.random.default_rng(seed)
    staleness, reuse = int(random.integers(4)), int(random.integers(1, 4))
    buffer, model = FragmentBuffer(staleness, reuse), Model(staleness, reuse)
    buffer.update("s", 1)
    version, session = 1, 0
    for _ in range(300):
        kind = random.integers(8)
        if kind == 0:
            version += 1
        if kind == 1 and random.integers(5) == 0:
            session, version = session + 1, 1
        if kind < 2:
            buffer.update(f"s{session}" if session else "s", version)
            model.update(f"s{session}" if session else "s", version)
        elif kind < 5:
            # Some come late: they were begun under a version, or in a session, that has gone by.
            born = max(1, version - int(random.integers(4)))
            of = f"s{session}" if session else "s"
            one = Some(born, int(random.integers(1, 4)), of if random.integers(10) else "gone by")
            assert buffer.add(one) == model.fresh(one)
            model.add(one)
        elif len(buffer):
            rows = int(random.integers(1, len(buffer) + 1))
            assert buffer.take(rows) == model.take(rows)
        assert len(buffer) == sum(one.rows for one, _ in model.held)
        assert buffer.dropped == model.dropped
        assert all(version - one.version <= staleness for one, _ in model.held)
