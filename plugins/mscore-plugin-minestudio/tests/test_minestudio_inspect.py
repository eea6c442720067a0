"""`mscore data inspect`: on healthy, spoiled and foreign folders."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from mscore_plugin_minestudio.commands.inspect import inspect as command
from mscore_plugin_minestudio.inspection import inspection
from mscore_plugin_minestudio.inspection.inspection import inspect
from mscore_plugin_minestudio.storage.layout import FLAG_KEYS, DatasetError, event_key
from mscore_plugin_minestudio.storage.payloads import dump_payload

B = "Player1-bbbbbb-20220101-101500"


def printed(folder, *options):
    result = CliRunner().invoke(command, [str(folder), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def in_json(folder, *options):
    return json.loads(printed(folder, "--json", *options))


# Healthy


def test_the_golden_dataset(golden):
    found = in_json(golden / "dataset")
    assert (found["episodes"], found["frames"]) == (6, 960)
    assert found["episode_frames"] == {"min": 32, "median": 128, "max": 384}
    assert found["problems"] == found["left_out"] == []
    assert list(found["modalities"]) == ["image", "action", "meta_info", "segmentation"]
    for report in found["modalities"].values():
        assert (report["parts"], report["episodes"], report["frames"]) == (2, 6, 960)
        assert (report["checked"], report["chunks"]) == (30, 30)
    for modality, report in found["modalities"].items():
        files = (golden / "dataset" / modality).glob("*/data.mdb")
        assert report["bytes"] == sum(file.stat().st_size for file in files)
    assert found["modalities"]["image"]["content"] == {"forms": {"224x224 h264": 30}, "bytes_per_frame": 4230}
    assert found["events"]["minecraft.use_item:minecraft.it's"] == {"items": 15, "episodes": 5}


def test_the_actions_are_counted(golden):
    stored = np.load(golden / "out" / "actions.npz")
    episodes = sorted({name.split("/")[0] for name in stored.files})
    ids = {
        kind: np.concatenate([stored[f"{name}/{kind}"] for name in episodes]).astype(int)
        for kind in ("buttons", "camera")
    }
    found = in_json(golden / "dataset")["actions"]
    assert found["frames"] == 960
    for key in FLAG_KEYS:
        assert found["keys"][key] == sum(int(stored[f"{name}/env/{key}"].sum()) for name in episodes)
    assert found["nothing"] == (ids["buttons"] == 0).sum()
    assert found["camera"] == (ids["camera"] != 60).sum()
    assert list(found["pitch"].values()) == np.bincount(ids["camera"] // 11, minlength=11).tolist()
    assert list(found["yaw"].values()) == np.bincount(ids["camera"] % 11, minlength=11).tolist()
    assert list(found["pitch"]) == list(found["yaw"])
    assert list(found["yaw"])[4:7] == ["-0.62", "0.00", "0.62"]
    counts = np.bincount(ids["buttons"])
    assert found["combinations"] == np.count_nonzero(counts)
    assert list(found["most_frequent"].values()) == sorted(counts.tolist(), reverse=True)[:10]
    assert found["most_frequent"]["nothing"] == counts[0]
    assert found["most_frequent"]["camera"] == counts[1]
    assert found["most_frequent"]["inventory"] == counts[8640]


def test_the_table_is_for_people(golden):
    text = printed(golden / "dataset")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].endswith("dataset: 6 episodes, 960 frames")
    assert "episodes of 32 to 384 frames, median 128" in lines
    assert "image 2 6 960 4.2 MB 30 of 30 224x224 h264 (30); bytes per frame: 4230" in lines
    assert any(line.startswith("forward 477 49.7% ████") for line in lines)
    assert "minecraft.custom:minecraft.jump 51 6" in lines
    assert lines[-1] == "no problems found"


def test_the_program_runs_it_without_torch(golden):
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    arguments = [sys.executable, "-m", "mscore", "data", "inspect", str(golden / "dataset")]
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
    assert "6 episodes, 960 frames" in result.stdout
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "mscore_plugin_minestudio.inspection.inspection" in imported
    assert "torch" not in imported


def small_dataset(folder, edit, payloads, name="a", **more):
    frames = 32 * len(payloads)
    info = {"episode": name, "episode_idx": 0, "num_frames": frames, **more}
    edit(
        folder / "action" / "part-1",
        {
            b"__chunk_size__": dump_payload(32),
            b"__chunk_infos__": dump_payload([info]),
            b"__num_episodes__": dump_payload(1),
            b"__num_total_frames__": dump_payload(frames),
            **{b"(0, %d)" % (32 * i): payload for i, payload in enumerate(payloads)},
        },
    )


def test_actions_of_another_world(tmp_path, edit):
    generator = np.random.default_rng(0)
    torque = generator.normal(size=(64, 2)).astype(np.float32)
    torque[3] = np.inf
    gear, seed = generator.integers(0, 3, 64), generator.integers(0, 2**40, 64)
    chunks = [{"torque": torque[s], "gear": gear[s], "seed": seed[s]} for s in (slice(32), slice(32, 64))]
    # The last 10 frames are filling.
    small_dataset(tmp_path, edit, [dump_payload(chunk) for chunk in chunks], num_valid_frames=54)
    found = in_json(tmp_path)
    assert found["problems"] == []
    actions = found["actions"]
    assert actions["frames"] == 54
    finite = torque[:54][np.isfinite(torque[:54])]
    assert actions["torque"]["dtype"] == "float32"
    assert actions["torque"]["shape"] == [2]
    assert actions["torque"]["max"] == finite.max()
    assert actions["torque"]["mean"] == pytest.approx(finite.astype(float).mean())
    assert actions["gear"]["values"] == {str(value): int((gear[:54] == value).sum()) for value in range(3)}
    assert (actions["seed"]["min"], actions["seed"].get("values")) == (seed[:54].min(), None)
    assert "torque" in printed(tmp_path)


def test_a_large_dataset_is_read_in_part(golden, monkeypatch):
    monkeypatch.setattr(inspection, "MOST_CHUNKS", dict.fromkeys(inspection.MOST_CHUNKS, 7))
    found = in_json(golden / "dataset")
    assert {(report["checked"], report["chunks"]) for report in found["modalities"].values()} == {(7, 30)}
    assert found["actions"]["frames"] == 7 * 32
    found = in_json(golden / "dataset", "--all")
    assert {(report["checked"], report["chunks"]) for report in found["modalities"].values()} == {(30, 30)}


# Spoiled


def test_everything_that_is_wrong_is_said(dataset, edit, tmp_path):
    parts = {name: dataset / name / "part-4" for name in ("image", "action", "meta_info", "segmentation")}
    video = (golden_chunk(parts["image"]))[:20_000]
    edit(parts["image"], {b"(0, 32)": video, b"(0, 64)": None})
    edit(parts["action"], {b"(0, 0)": b"cos\nsystem\n.", b"__num_episodes__": dump_payload(np.array([3, 3]))})
    edit(parts["meta_info"], {b"(1, 32)": dump_payload([{}] * 31), b"__num_total_frames__": None})
    edit(parts["segmentation"], {b"(0, 0)": dump_payload([{"no": "interaction"}] * 32)})
    (dataset / "segmentation" / "part-7" / "data.mdb").write_bytes(b"gone")
    (dataset / "image" / "list.txt").write_text("…")
    edit(dataset / "event", {event_key("minecraft.custom:minecraft.jump", 0): dump_payload(("0", 32, 1))})
    edit(dataset / "event", {event_key("minecraft.pickup:minecraft.dirt", 0): None})
    found = in_json(dataset)
    expected = [
        "image/list.txt: it is no part of image",
        f"image/part-4/data.mdb, key (0, 64), episode '{B}': the chunk is missing",
        "action/part-4/data.mdb, key __num_episodes__: array([3, 3]); its episodes make 3",
        "meta_info/part-4/data.mdb, key __num_total_frames__: the key is missing",
        "segmentation/part-7/data.mdb: it is no LMDB file",
        f"action/part-4/data.mdb, key (0, 0), episode '{B}': no pickle",
        "meta_info/part-4/data.mdb, key (1, 32), episode 'solo-0': 31 frames",
        f"segmentation/part-4/data.mdb, key (0, 0), episode '{B}': a frame",
        "event/data.mdb, key ('minecraft.pickup:minecraft.dirt', 0): the key is missing",
        "event/data.mdb: event 'minecraft.custom:minecraft.jump': 1 of 51 behind the end",
    ]
    for start in expected:
        assert any(problem.startswith(f"{dataset}/{start}") for problem in found["problems"]), (
            start,
            found["problems"],
        )
    assert len(found["problems"]) == len(expected)
    assert found["episodes"] == 3
    assert {entry["name"] for entry in found["left_out"]} == {
        B,
        "Player1-aaaaaa-20220101-100000",
        "Player3-dddddd-20220103-083000",
    }
    text = printed(dataset)
    assert "problems found: 10" in text
    assert "left out: 3 episodes" in text


def golden_chunk(part):
    from mscore_plugin_minestudio.storage.lmdb_reader import LmdbReader

    return LmdbReader(part).get(b"(0, 32)")


def test_a_damaged_video_is_a_problem(dataset, edit):
    video = bytearray(golden_chunk(dataset / "image" / "part-4"))
    edit(dataset / "image" / "part-4", {b"(0, 32)": bytes(video[: len(video) // 2]), b"(1, 0)": b""})
    found = in_json(dataset)
    assert [problem.split(": ")[0].split("key ")[1] for problem in found["problems"]] == [
        f"(0, 32), episode '{B}'",
        "(1, 0), episode 'Player2-cccccc-20220102-120000'",
    ]


def test_a_dataset_of_which_nothing_is_left(dataset):
    for file in dataset.glob("*/*/data.mdb"):
        file.write_bytes(b"")
    (dataset / "event" / "data.mdb").unlink()
    found = in_json(dataset)
    assert (found["episodes"], found["episode_frames"], found["actions"], found["events"]) == (0, None, None, {})
    assert len(found["problems"]) == 9
    assert "0 episodes, 0 frames" in printed(dataset)


@pytest.mark.parametrize("modality", ["image", "action", "meta_info", "segmentation"])
def test_one_modality_alone(dataset, modality):
    for other in {"image", "action", "meta_info", "segmentation", "event"} - {modality}:
        shutil.rmtree(dataset / other)
    found = in_json(dataset)
    assert (found["episodes"], list(found["modalities"]), found["problems"]) == (6, [modality], [])
    assert printed(dataset)


def test_names_cannot_play_tricks_with_a_terminal(tmp_path, edit):
    name = "\x1b[2J[bold]\nname"
    small_dataset(tmp_path, edit, [b"spoiled"], name=name)
    text = printed(tmp_path)
    assert "\x1b" not in text
    assert "[bold]" in text
    assert name in in_json(tmp_path)["problems"][0] or repr(name) in in_json(tmp_path)["problems"][0]


# Foreign


def test_foreign_folders_are_named_for_what_they_are(tmp_path, golden):
    (tmp_path / "vpt").mkdir()
    for name in ("a.mp4", "a.jsonl"):
        (tmp_path / "vpt" / name).write_text("")
    (tmp_path / "minari" / "data").mkdir(parents=True)
    (tmp_path / "minari" / "data" / "metadata.json").write_text("{}")
    for folder, message in {
        tmp_path / "nowhere": "there is no such folder",
        tmp_path / "vpt" / "a.mp4": "there is no such folder",
        tmp_path: "no dataset of MineStudio's: expected folders image, .*; found 'minari', 'vpt'",
        tmp_path / "vpt": "`mscore data convert` makes a dataset of them",
        tmp_path / "minari": "dataset of Minari's",
        golden / "dataset" / "image": f"the dataset is {golden / 'dataset'}$",
    }.items():
        with pytest.raises(DatasetError, match=message):
            inspect(folder)


def test_a_foreign_folder_is_said_in_a_line(tmp_path):
    arguments = [sys.executable, "-m", "mscore", "data", "inspect", str(tmp_path)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {tmp_path}: it is no dataset of MineStudio's")
    assert len(result.stderr.splitlines()) == 1
