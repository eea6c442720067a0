"""Windows that lead to events: which of a dataset's events are used, and where their windows lie."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mscore import MscoreError
from mscore_plugin_minestudio.storage.event_store import EventItem, EventStore

FIRST_TIME = 128
"""Events before this frame are left out, as in MineStudio: what led to them is not in the episode."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event that is used.

    Attributes:
        name: such as ``minecraft.mine_block:minecraft.oak_log``.
        number: which of the times that it happened, counted in the dataset's file.
        episode: the episode's name.
        time: the frame.
    """

    name: str
    number: int
    episode: str
    time: int

    @property
    def text(self) -> str:
        """The name as MineStudio gives it to policies: ``mine_block:oak_log``."""
        return short_name(self.name)


@dataclass
class EventSelection:
    """The events that are used, and how many are not.

    Attributes:
        events: by name, dataset, episode and time.
        left_out: reason to number of events.
    """

    events: list[Event] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def short_name(event: str) -> str:
    """An event's name without ``minecraft.``: ``mine_block:oak_log``, as policies are told it."""
    return event.replace("minecraft.", "")


def select_events(
    stores: Sequence[EventStore],
    event_regex: str,
    episodes: Mapping[str, int],
    *,
    min_nearby: int | None = None,
    max_within: int | None = None,
) -> EventSelection:
    """Choose among the events of some datasets.

    Args:
        stores: the events of each dataset.
        event_regex: matched from the beginning of the full name (``re.match``).
        episodes: frames of the episodes that can be read, by name.
        min_nearby: of one kind of event, the next that is used in an episode comes more than this many frames
            after the last; None uses all.
        max_within: at most this many of one kind of event are used of each dataset; None uses all.

    Raises:
        MscoreError: ``event_regex`` is no regular expression, matches no event, or no event is left.
        DatasetError: the events cannot be read.
    """
    try:
        pattern = re.compile(event_regex)
    except re.error as error:
        raise MscoreError(f"event_regex {event_regex!r} is no regular expression: {error}") from error
    names = sorted({name for store in stores for name in store.names if pattern.match(name)})
    if not names:
        known = sorted({name for store in stores for name in store.names})
        raise MscoreError(
            f"event_regex {event_regex!r} matches none of the {len(known)} kinds of events, such as "
            f"{', '.join(known[:3]) or 'none'}; it is matched from the beginning of the full name"
        )
    selection = EventSelection()
    for name in names:
        for store in stores:
            if name in store.infos:
                _select(selection, name, store.items(name), episodes, min_nearby, max_within)
    if not selection.events:
        reasons = ", ".join(f"{count} {reason}" for reason, count in selection.left_out.items())
        raise MscoreError(f"no event that event_regex {event_regex!r} matches can be used: {reasons}")
    return selection


def _select(
    selection: EventSelection,
    name: str,
    items: Sequence[EventItem],
    episodes: Mapping[str, int],
    min_nearby: int | None,
    max_within: int | None,
) -> None:
    """Add what is used of one kind of event in one dataset."""
    last: dict[str, int] = {}
    used = 0
    for number, item in enumerate(items):
        if item.episode not in episodes:
            reason = "in episodes that are not used"
        elif item.time < FIRST_TIME:
            reason = f"before frame {FIRST_TIME}"
        elif item.time >= episodes[item.episode]:
            reason = "behind the end of their episode"
        elif min_nearby is not None and item.episode in last and item.time - last[item.episode] <= min_nearby:
            reason = f"within {min_nearby} frames of another (min_nearby)"
        elif max_within is not None and used >= max_within:
            reason = f"beyond the first {max_within} of their kind (max_within)"
        else:
            last[item.episode] = item.time
            used += 1
            selection.events.append(Event(name, number, item.episode, item.time))
            continue
        selection.left_out[reason] += 1


def window_start(time: int, window: int, stride: int, bias: int) -> int:
    """First frame of an event's window, which ends with the frame before the event, ``bias`` frames later.

    A window that would begin before its episode begins with it, and then goes on behind the event.

    Args:
        time: the event's frame.
        window: frames of a window.
        stride: every how many frames one is taken.
        bias: frames by which the window is moved; 1 makes the event's frame the last one.
    """
    return max(time - window * stride + bias, 0)
