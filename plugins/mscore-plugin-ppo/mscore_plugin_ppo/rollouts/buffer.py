"""Fragments that wait to be learned from."""

from collections import deque

from mscore_plugin_ppo.rollouts.fragments import Fragments


class FragmentBuffer:
    """A queue of fragments, first in, first out, that lets go of what is too old or used up.

    Args:
        max_staleness: versions that fragments may lag behind the newest.
        max_reuse: how often fragments may be learned from.
    """

    def __init__(self, max_staleness: int = 0, max_reuse: int = 1) -> None:
        self.max_staleness = max_staleness
        self.max_reuse = max_reuse
        self.dropped = 0
        """Fragments (rows) that were let go unused or before their time."""
        self._queue: deque[Fragments] = deque()
        self._session = ""
        self._version = 0

    def __len__(self) -> int:
        return sum(map(len, self._queue))

    def update(self, session: str, version: int) -> None:
        """A new version is there: what lags too far behind is let go."""
        self._session, self._version = session, version
        kept = [one for one in self._queue if self._is_fresh(one)]
        self.dropped += len(self) - sum(map(len, kept))
        self._queue = deque(kept)

    def add(self, fragments: Fragments) -> bool:
        """Take fragments in; False if they are stale already."""
        if not self._is_fresh(fragments):
            self.dropped += len(fragments)
            return False
        self._queue.append(fragments)
        return True

    def take(self, num_fragments: int) -> list[Fragments]:
        """The oldest fragments, ``num_fragments`` rows of them; those that may be used again stay, as the youngest.

        Raises:
            ValueError: there are fewer.
        """
        if len(self) < num_fragments:
            raise ValueError(f"{num_fragments} fragments were asked for, and there are {len(self)}")
        taken: list[Fragments] = []
        while sum(map(len, taken)) < num_fragments:
            taken.append(self._queue.popleft())
        for one in taken:
            one.uses += 1
            if one.uses < self.max_reuse:
                self._queue.append(one)
        return taken

    def _is_fresh(self, fragments: Fragments) -> bool:
        return fragments.session == self._session and self._version - fragments.version <= self.max_staleness
