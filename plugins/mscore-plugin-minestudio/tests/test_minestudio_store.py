"""Datasets on disk: joined by episode, over parts and folders; and what is wrong with one is said."""

import json
import pickle
import shutil

import lmdb
import numpy as np
import pytest
from mscore_plugin_minestudio.storage.event_store import EventInfo, EventItem
from mscore_plugin_minestudio.storage.layout import DatasetError, chunk_key, event_key
from mscore_plugin_minestudio.storage.payloads import dump_payload
from mscore_plugin_minestudio.storage.store import EventStore, open_catalog

from mscore import MscoreError

MODALITIES = ("image", "action", "meta_info", "segmentation")
LENGTHS = {
    "Player1-aaaaaa-20220101-100000": 32,
    "Player1-bbbbbb-20220101-101500": 192,
    "Player2-cccccc-20220102-120000": 160,
    "Player2-cccccc-20220102-123000": 96,
    "Player3-dddddd-20220103-083000": 384,
    "solo-0": 96,
}
A, B, C, *_ = LENGTHS
PART_4 = {B, C, "solo-0"}
"""Episodes of the part action/part-4."""


def lengths(catalog):
    return {episode.name: episode.frames for episode in catalog.episodes}


def reasons(catalog):
    return {left_out.name: left_out.reason for left_out in catalog.left_out}


def infos(*episodes, **more):
    return dump_payload(
        [{"episode": name, "episode_idx": index, "num_frames": frames, **more} for name, index, frames in episodes]
    )


def part(*episodes, size=32, payload=b"payload"):
    """The values of a part with these episodes (name, number, frames)."""
    values = {
        b"__chunk_size__": dump_payload(size),
        b"__chunk_infos__": infos(*episodes),
        b"__num_episodes__": dump_payload(len(episodes)),
        b"__num_total_frames__": dump_payload(sum(frames for _, _, frames in episodes)),
    }
    for _, index, frames in episodes:
        values |= {chunk_key(index, start): payload for start in range(0, frames, size)}
    return values


# Healthy datasets


def test_the_golden_dataset(golden):
    catalog = open_catalog([golden / "dataset"], MODALITIES)
    assert lengths(catalog) == LENGTHS
    assert list(lengths(catalog)) == sorted(LENGTHS)
    assert catalog.summary() == "6 episodes, 960 frames (image, action, meta_info, segmentation)"
    assert catalog.left_out == catalog.problems == []


def test_every_chunk_is_read_as_it_is_stored(dataset):
    for modality in MODALITIES:
        stored = {}
        for folder in (dataset / modality).iterdir():
            with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
                for info in pickle.loads(transaction.get(b"__chunk_infos__")):
                    for start in range(0, info["num_frames"], 32):
                        key = str((info["episode_idx"], start)).encode()
                        stored[info["episode"], start] = bytes(transaction.get(key))
        store = open_catalog([dataset], [modality]).stores[modality]
        assert len(stored) == 30
        assert {place: store.read_chunk(*place) for place in stored} == stored


def test_folders_go_by_other_names_too(dataset):
    (dataset / "image").rename(dataset / "video")
    (dataset / "meta_info").rename(dataset / "contractor_info")
    (dataset / "segmentation").rename(dataset / "segment")
    (dataset / "action").rename(dataset / "action.v2")
    assert lengths(open_catalog([dataset], MODALITIES)) == LENGTHS


def test_several_datasets_and_parts_are_taken_together(dataset, tmp_path):
    for modality in MODALITIES:
        (tmp_path / "other" / modality).mkdir(parents=True)
        (dataset / modality / "part-7").rename(tmp_path / "other" / modality / "any name")
    (dataset / "segmentation" / "part-4").rename(tmp_path / "other" / "segmentation" / "part-4")
    (dataset / "segmentation").rmdir()
    assert lengths(open_catalog([str(dataset), tmp_path / "other"], MODALITIES)) == LENGTHS
    with_one = open_catalog([dataset], ["image", "action"])
    assert reasons(with_one) == {
        "Player2-cccccc-20220102-123000": "not in action",
        "solo-0": "not in image",
    }


def test_what_begins_with_a_dot_is_passed_over(dataset):
    (dataset / "image" / ".DS_Store").write_bytes(b"\x00")
    (dataset / "image" / ".part-9.draft").mkdir()
    (dataset / ".image").mkdir()
    (dataset / "README.md").write_text("# Data")
    (dataset / "action.json").write_text("{}")
    assert lengths(open_catalog([dataset], MODALITIES)) == LENGTHS


def test_the_last_part_with_an_episode_is_used(tmp_path, edit):
    for number in (1, 2):
        edit(tmp_path / "image" / f"part-{number}", part(("a", number, 64), payload=b"%d" % number))
    catalog = open_catalog([tmp_path], ["image"])
    assert catalog.stores["image"].read_chunk("a", 32) == b"2"
    assert "image: in several parts, the last one's is used: 'a'" in catalog.summary()


def test_a_padded_tail_does_not_count(tmp_path, edit):
    values = part(("a", 0, 96)) | {b"__chunk_infos__": infos(("a", 0, 96), num_valid_frames=70)}
    edit(tmp_path / "image" / "part-1", values)
    assert lengths(open_catalog([tmp_path], ["image"])) == {"a": 70}


def test_numbers_may_be_numpys_and_names_anyones(tmp_path, edit):
    name = 'Игрок "it\'s" -1/2\x1b[31m'
    edit(tmp_path / "image" / "part-1", part((name, np.int64(3), np.int32(64)), size=np.int64(16)))
    catalog = open_catalog([tmp_path], ["image"])
    assert lengths(catalog) == {name: 64}
    assert catalog.stores["image"].chunk_frames == 16
    assert catalog.stores["image"].read_chunk(name, 48) == b"payload"


def test_a_catalog_may_be_sent_away(golden):
    catalog = open_catalog([golden / "dataset"], MODALITIES)
    copy = pickle.loads(pickle.dumps(catalog))
    assert copy.episodes == catalog.episodes
    assert copy.stores["image"].read_chunk(B, 160) == catalog.stores["image"].read_chunk(B, 160)


def test_frames_are_found_chunk_by_chunk(golden):
    store = open_catalog([golden / "dataset"], ["action"]).stores["action"]
    generator = np.random.default_rng(0)
    for _ in range(100):
        frames = np.sort(generator.choice(384, generator.integers(1, 60), replace=False))
        for chosen in (frames, np.arange(frames[0], frames[-1] + 1), frames[:1]):
            found = np.full(len(chosen), -1)
            for span in store.spans(chosen):
                assert span.start % 32 == 0
                chunk = np.arange(span.start, span.start + 32)
                np.testing.assert_array_equal(chunk[span.inside], chunk[span.selection])
                found[span.place] = chunk[span.selection]
            np.testing.assert_array_equal(found, chosen)


# What is left out


def test_episodes_that_do_not_match_are_left_out_with_the_reason(tmp_path, edit):
    edit(tmp_path / "image" / "part-1", part(("both", 0, 64), ("longer", 1, 96), ("pictures", 2, 32)))
    more = [(f"n{i}", i + 2, 32) for i in range(7)]
    edit(tmp_path / "action" / "part-1", part(("longer", 0, 64), ("both", 1, 64), *more))
    catalog = open_catalog([tmp_path], ["image", "action"])
    assert lengths(catalog) == {"both": 64}
    assert reasons(catalog) == {
        "longer": "96 frames of image, 64 frames of action",
        "pictures": "not in action",
        **{f"n{i}": "not in image" for i in range(7)},
    }
    assert catalog.summary().splitlines() == [
        "1 episode, 64 frames (image, action)",
        "9 episodes left out:",
        "  96 frames of image, 64 frames of action: 'longer'",
        "  not in image: 'n0', 'n1', 'n2', 'n3', 'n4' and 2 more",
        "  not in action: 'pictures'",
    ]


def test_no_episode_in_common_is_an_error(tmp_path, edit):
    edit(tmp_path / "image" / "part-1", part(("a", 0, 64)))
    edit(tmp_path / "action" / "part-1", part(("b", 0, 64)))
    for on_error in ("raise", "skip"):
        with pytest.raises(DatasetError, match=r"no episode can be used(.|\n)*not in action: 'a'"):
            open_catalog([tmp_path], ["image", "action"], on_error)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_folders_that_are_no_dataset_are_refused(tmp_path, golden, on_error):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("…")
    (tmp_path / "6xx").mkdir()
    (tmp_path / "6xx" / "image").mkdir()
    for folder, message in {
        golden / "out": "no dataset of MineStudio's: expected folders image, video, .*; found 'action_tables.npz'",
        tmp_path / "empty": "found nothing",
        tmp_path / "nowhere": "there is no such folder",
        tmp_path / "elsewhere" / "10xx": "download CraftJarvis/minestudio-data-10xx-v110",
        tmp_path / "file": "there is no such folder",
        tmp_path / "6xx": "holds no (part of )?image",
    }.items():
        with pytest.raises(DatasetError, match=message) as raised:
            open_catalog([folder], ["image"], on_error)
        assert str(folder) in str(raised.value)
    with pytest.raises(DatasetError, match="`dataset_dirs` is empty"):
        open_catalog([], ["image"], on_error)


def test_a_modality_that_no_dataset_has_is_named(dataset):
    shutil.rmtree(dataset / "segmentation")
    with pytest.raises(DatasetError, match="it holds no segmentation: expected parts in segmentation/ or segment/"):
        open_catalog([dataset], MODALITIES)


# What is wrong


def cut(folder, edit):
    file = folder / "data.mdb"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(folder, edit):
    (folder / "data.mdb").write_bytes(b"")


def other_kind(folder, edit):
    (folder / "data.mdb").write_text("<html>404</html>" * 1000)


def without_data(folder, edit):
    (folder / "data.mdb").rename(folder / "data.mdb.part")


def a_file(folder, edit):
    shutil.rmtree(folder)
    folder.write_text("moved")


def without_size(folder, edit):
    edit(folder, {b"__chunk_size__": None})


def size_of_text(folder, edit):
    edit(folder, {b"__chunk_size__": dump_payload("32")})


def size_of_nothing(folder, edit):
    edit(folder, {b"__chunk_size__": dump_payload(0)})


def other_size(folder, edit):
    edit(folder, {b"__chunk_size__": dump_payload(16)})


def without_infos(folder, edit):
    edit(folder, {b"__chunk_infos__": None})


def infos_of_text(folder, edit):
    edit(folder, {b"__chunk_infos__": dump_payload("none")})


def infos_that_run(folder, edit):
    edit(folder, {b"__chunk_infos__": b"cos\nsystem\n(S'touch ran'\ntR."})


def infos_cut(folder, edit):
    edit(folder, {b"__chunk_infos__": infos((B, 0, 192))[:-9]})


WHOLE_PARTS = {
    cut: "cut off",
    empty: "no LMDB file, or cut off",
    other_kind: "no LMDB file",
    without_data: "it is no part of action",
    a_file: "it is no part of action",
    without_size: "key __chunk_size__: the key is missing",
    size_of_text: "key __chunk_size__: it is no number of frames",
    size_of_nothing: "key __chunk_size__: it is no number of frames",
    other_size: "key __chunk_size__: chunks of 16 frames, other parts have 32",
    without_infos: "key __chunk_infos__: the key is missing",
    infos_of_text: "key __chunk_infos__: a str; expected a list of episodes",
    infos_that_run: "key __chunk_infos__: no pickle of protocol 3 to 5",
    infos_cut: "key __chunk_infos__: malformed behind byte",
}


@pytest.mark.parametrize("spoil", WHOLE_PARTS, ids=lambda spoil: spoil.__name__)
def test_a_part_that_cannot_be_read(dataset, edit, spoil):
    spoil(dataset / "action" / "part-4", edit)
    with pytest.raises(DatasetError, match=WHOLE_PARTS[spoil]) as raised:
        open_catalog([dataset], MODALITIES)
    assert str(dataset / "action" / "part-4") in str(raised.value)
    catalog = open_catalog([dataset], MODALITIES, "skip")
    assert lengths(catalog) == {name: frames for name, frames in LENGTHS.items() if name not in PART_4}
    assert reasons(catalog) == dict.fromkeys(sorted(PART_4), "not in action")
    assert [str(problem) for problem in catalog.problems] == [str(raised.value)]
    assert f"not read:\n  {raised.value}" in catalog.summary()


def test_a_stray_file_and_an_empty_folder(dataset):
    (dataset / "action" / "notes.txt").write_text("…")
    (dataset / "image" / "part-8").mkdir()
    (dataset / "segment").mkdir()
    for modality, name in [("action", "notes.txt"), ("image", "part-8"), ("segmentation", "segment")]:
        with pytest.raises(DatasetError, match=rf"{name}: it .* part of {modality}"):
            open_catalog([dataset], [modality])
    catalog = open_catalog([dataset], MODALITIES, "skip")
    assert lengths(catalog) == LENGTHS
    assert len(catalog.problems) == 3


def test_the_first_problem_tells_of_the_others(dataset, edit):
    edit(dataset / "image" / "part-4", {b"(0, 64)": None, b"(1, 0)": None})
    edit(dataset / "image" / "part-7", {b"(0, 0)": None})
    with pytest.raises(DatasetError, match=r"part-4/data\.mdb, key \(0, 64\)") as raised:
        open_catalog([dataset], MODALITIES)
    assert raised.value.__notes__ == ["and 2 more like it: `mscore data inspect` lists them"]


EPISODES = {
    "no dict": ([B], "entry 0 names no episode", None),
    "no name": ([{"episode_idx": 0, "num_frames": 192}], "entry 0 names no episode", None),
    "empty name": ([{"episode": "", "episode_idx": 0, "num_frames": 192}], "entry 0 names no episode", None),
    "no number": ([{"episode": B, "num_frames": 192}], "episode_idx None, num_frames 192; expected a number", B),
    "number below zero": ([{"episode": B, "episode_idx": -1, "num_frames": 192}], "episode_idx -1", B),
    "number of truth": ([{"episode": B, "episode_idx": True, "num_frames": 192}], "episode_idx True", B),
    "no frames": ([{"episode": B, "episode_idx": 0, "num_frames": 0}], "num_frames 0", B),
    "half a chunk": ([{"episode": B, "episode_idx": 0, "num_frames": 190}], "a multiple of 32", B),
    "too few frames": ([{"episode": B, "episode_idx": 0, "num_frames": 160}], "a chunk behind the last of the 160", B),
    "forged frames": ([{"episode": B, "episode_idx": 0, "num_frames": 2**60}], r"\(0, 192\).* chunk is missing", B),
    "too many frames": ([{"episode": B, "episode_idx": 0, "num_frames": 224}], r"\(0, 192\).* chunk is missing", B),
    "valid frames": (
        [{"episode": B, "episode_idx": 0, "num_frames": 192, "num_valid_frames": 160}],
        "num_valid_frames does not fit num_frames, which is 192",
        B,
    ),
    "valid beyond": (
        [{"episode": B, "episode_idx": 0, "num_frames": 192, "num_valid_frames": 193}],
        "num_valid_frames does not fit",
        B,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EPISODES)
def test_an_episode_that_is_described_wrongly(dataset, edit, case):
    entries, message, name = EPISODES[case]
    rest = [
        {"episode": "solo-0", "episode_idx": 1, "num_frames": 96},
        {"episode": C, "episode_idx": 2, "num_frames": 160},
    ]
    edit(dataset / "action" / "part-4", {b"__chunk_infos__": dump_payload(entries + rest)})
    with pytest.raises(DatasetError, match=message) as raised:
        open_catalog([dataset], MODALITIES)
    assert raised.value.file == str(dataset / "action" / "part-4" / "data.mdb")
    assert raised.value.episode == name
    catalog = open_catalog([dataset], MODALITIES, "skip")
    assert lengths(catalog) == {episode: frames for episode, frames in LENGTHS.items() if episode != B}
    assert reasons(catalog) == {B: str(raised.value) if name else "not in action"}


def test_episodes_that_share_a_name_or_a_number(tmp_path, edit):
    edit(tmp_path / "image" / "part-1", part(("a", 0, 32), ("b", 0, 32), ("a", 1, 32), ("c", 2, 32)))
    with pytest.raises(DatasetError, match="episode 'b': its name or its number stands twice"):
        open_catalog([tmp_path], ["image"])
    catalog = open_catalog([tmp_path], ["image"], "skip")
    assert lengths(catalog) == {"a": 32, "c": 32}


def test_a_chunk_that_is_missing_is_found_when_the_dataset_is_opened(dataset, edit):
    edit(dataset / "image" / "part-4", {b"(0, 64)": None, b"(0, 128)": None})
    message = r"image/part-4/data\.mdb, key \(0, 64\), episode '.*bbbbbb.*': the chunk is missing"
    with pytest.raises(DatasetError, match=message) as raised:
        open_catalog([dataset], MODALITIES)
    catalog = open_catalog([dataset], MODALITIES, "skip")
    assert reasons(catalog) == {B: str(raised.value)}
    assert len(catalog.episodes) == 5


def test_a_chunk_that_goes_missing_later_is_named(dataset, edit):
    # Another key hides the gap from the count.
    edit(dataset / "image" / "part-4", {b"(0, 64)": None, b"__note__": b"1"})
    store = open_catalog([dataset], ["image"]).stores["image"]
    with pytest.raises(DatasetError, match=r"image/part-4/data\.mdb, key \(0, 64\), episode '.*bbbbbb.*'") as raised:
        store.read_chunk(B, 64)
    assert (raised.value.key, raised.value.episode) == ("(0, 64)", B)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (str(copy), copy.key, copy.episode) == (str(raised.value), "(0, 64)", B)
    assert isinstance(copy, MscoreError)


# Events


def test_the_golden_events(golden):
    events = EventStore(golden / "dataset" / "event")
    assert len(events.names) == 6
    assert events.infos["minecraft.use_item:minecraft.it's"] == EventInfo(items=15, episodes=5)
    items = {event: events.items(event) for event in events.names}
    rows = [row for config in json.loads((golden / "out" / "events.json").read_text()) for row in config["rows"]]
    assert rows
    assert all((row["ep"], row["t"], row["value"]) in items[row["event"]] for row in rows)
    assert items["minecraft.use_item:minecraft.it's"][0] == EventItem(B, 52, 3)
    assert {name: len(found) for name, found in items.items()} == {name: i.items for name, i in events.infos.items()}
    for found in items.values():
        assert [item[:2] for item in found] == sorted(item[:2] for item in found)
        assert {item.episode for item in found} <= set(LENGTHS)


NAMES = ["plain", "it's", 'say "it"', "both ' and \"", "back\\slash", "Ünïcode→", "new\nline", "\x1b[31m"]


def test_events_of_any_name_without_a_codebook(tmp_path, edit):
    values = {
        b"__num__events__": dump_payload(len(NAMES)),
        b"__event_info__": dump_payload({name: {"__num_items__": 2, "__num_episodes__": 1} for name in NAMES}),
    }
    for number, name in enumerate(NAMES):
        assert event_key(name, 1) == str((name, 1)).encode()
        values |= {event_key(name, i): dump_payload(("ep", i * 7, np.int64(number))) for i in range(2)}
    edit(tmp_path, values)
    events = pickle.loads(pickle.dumps(EventStore(tmp_path)))
    assert events.names == NAMES
    assert events.items(NAMES[3]) == [EventItem("ep", 0, 3), EventItem("ep", 7, 3)]


EVENT = "minecraft.pickup:minecraft.dirt"
EVENTS = {
    "no infos": ({b"__event_info__": None}, "key __event_info__: the key is missing"),
    "infos of a list": ({b"__event_info__": dump_payload([1])}, "expected a dict of events"),
    "no counts": ({b"__event_info__": dump_payload({EVENT: {}})}, "without __num_items__"),
    "codes of numbers": ({b"__codebook__": dump_payload({"a": 1})}, "expected a dict of episodes to codes"),
    "no item": ({event_key(EVENT, 3): None}, r"key \('minecraft.pickup:minecraft.dirt', 3\): the key is missing"),
    "two numbers": ({event_key(EVENT, 3): dump_payload((1, 2))}, r"\(1, 2\); expected \(episode, time, value\)"),
    "no time": ({event_key(EVENT, 3): dump_payload(("1", None, 2))}, "expected"),
    "unknown code": ({event_key(EVENT, 3): dump_payload(("77", 1, 2))}, "the code '77' stands for no episode"),
    "code that runs": ({event_key(EVENT, 3): b"cos\nsystem\n."}, "no pickle"),
}


@pytest.mark.parametrize("case", EVENTS)
def test_events_that_cannot_be_read(dataset, edit, case):
    values, message = EVENTS[case]
    edit(dataset / "event", values)
    with pytest.raises(DatasetError, match=message) as raised:
        EventStore(dataset / "event").items(EVENT)
    assert str(dataset / "event" / "data.mdb") in str(raised.value)


def test_a_dataset_without_events(dataset):
    with pytest.raises(DatasetError, match=r"image/data\.mdb: it cannot be opened"):
        EventStore(dataset / "image")
