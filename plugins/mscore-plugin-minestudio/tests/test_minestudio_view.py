"""`mscore data view`: films of real episodes, on whose frames the drawn keys, outlines and events are looked for."""

import random
import shutil

import av
import numpy as np
import pytest
from click.testing import CliRunner
from mscore_plugin_minestudio.commands.view import view
from mscore_plugin_minestudio.frames.reader import ImageReader
from mscore_plugin_minestudio.modalities.actions import ActionReader
from mscore_plugin_minestudio.modalities.meta_info import MetaInfoReader
from mscore_plugin_minestudio.modalities.segmentation import SegmentationReader
from mscore_plugin_minestudio.storage.layout import ACTION_KEYS, DatasetError
from mscore_plugin_minestudio.storage.store import open_catalog
from mscore_plugin_minestudio.viewing import drawing
from mscore_plugin_minestudio.writing.writer import DatasetWriter

from mscore import MscoreError

EPISODE = "Player1-bbbbbb-20220101-101500"


def run(*arguments):
    return CliRunner().invoke(view, [str(argument) for argument in arguments], catch_exceptions=False).output


def frames_of(path):
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 20
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def film(golden, tmp_path_factory):
    out = tmp_path_factory.mktemp("film") / "film.mp4"
    output = run(golden / "dataset", EPISODE, "--out", out)
    assert output == f"192 frames in {out}, with action, segmentation, events drawn on\n"
    assert [path.name for path in out.parent.iterdir()] == ["film.mp4"]
    return frames_of(out)


def is_near(pixels, colour, by=60):
    return np.abs(pixels - np.array(colour)).max(axis=-1) < by


def pressed_in(frame, key):
    """Whether the key's cap is filled, at its lower right corner, where no text is."""
    _, x, y, width = drawing._CAPS[key]
    row, column = y + drawing._CAP_HEIGHT - 4, 448 + x + width - 5
    return bool(is_near(frame[row - 1 : row + 2, column - 1 : column + 2].mean(axis=(0, 1)), drawing._PRESSED))


def test_pressed_keys_are_lit(golden, film):
    actions = ActionReader(open_catalog([golden / "dataset"], ["action"]).stores["action"])
    taken = actions.read(EPISODE, np.arange(192))
    assert len(film) == 192
    assert {frame.shape for frame in film} == {(448 + 56, 448 + 240, 3)}
    for key in ACTION_KEYS:
        if key != "camera":
            assert [pressed_in(frame, key) for frame in film] == (taken[key] == 1).tolist(), key


def test_the_cameras_movement_is_an_arrow(golden, film):
    actions = ActionReader(open_catalog([golden / "dataset"], ["action"]).stores["action"])
    camera = actions.read(EPISODE, np.arange(192))["camera"]
    x, y, radius = drawing._DIAL
    for frame, (pitch, yaw) in zip(film, camera, strict=True):
        dial = frame[y - radius : y + radius + 1, 448 + x - radius : 448 + x + radius + 1]
        rows, columns = np.nonzero(is_near(dial, drawing._PRESSED))
        if not pitch and not yaw:
            assert not len(rows)
        elif max(abs(pitch), abs(yaw)) > 5:
            direction = np.sign([rows.mean() - radius, columns.mean() - radius])
            larger = int(abs(yaw) > abs(pitch))
            assert direction[larger] == np.sign([pitch, yaw])[larger]


def test_objects_are_outlined(golden, film):
    store = open_catalog([golden / "dataset"], ["segmentation"]).stores["segmentation"]
    outlined = 0
    for number in range(192):
        entries = store.load_chunk(EPISODE, number // 32 * 32)[number % 32]
        if len(entries) != 1:
            continue
        (entry,) = entries.values()
        masks = np.zeros((1, 448, 448), np.uint8)
        SegmentationReader(store, 448, 448).read_into(EPISODE, np.array([number]), masks, random.Random(0))
        if masks.sum() < 900:
            continue
        inner = masks[0].astype(bool)
        edge = inner & ~(np.roll(inner, 3, 0) & np.roll(inner, -3, 0) & np.roll(inner, 3, 1) & np.roll(inner, -3, 1))
        colour = drawing.OBJECT_COLOURS[entry["obj_id"]]
        assert is_near(film[number][:448, :448][edge], colour, 90).mean() > 0.3
        outlined += 1
    assert outlined > 20


def test_pictures_are_those_of_the_dataset(golden, film):
    """Where nothing is drawn: a frame without interactions, enlarged twofold."""
    catalog = open_catalog([golden / "dataset"], ["image", "segmentation"])
    segmentation = catalog.stores["segmentation"]
    number = next(n for n in range(192) if not segmentation.load_chunk(EPISODE, n // 32 * 32)[n % 32])
    stored = np.empty((1, 224, 224, 3), np.uint8)
    ImageReader(catalog.stores["image"], 224, 224).read_into([(EPISODE, np.array([number]), stored)])
    enlarged = stored[0].repeat(2, 0).repeat(2, 1).astype(int)
    assert np.abs(film[number][:448, :448] - enlarged).mean() < 8


def text_below(frame):
    """Whether there is text in the second line below the picture."""
    return bool((frame[448 + 30 : 448 + 52, :448].max(axis=-1) > 150).any())


def test_events_are_named_for_a_second(golden, tmp_path):
    name = "Player3-dddddd-20220103-083000"
    infos = MetaInfoReader(open_catalog([golden / "dataset"], ["meta_info"]).stores["meta_info"])
    times = [n for n, info in enumerate(infos.read(name, np.arange(90))) if info["events"]]
    expected = [any(0 <= number - time < 20 for time in times) for number in range(90)]
    assert len(set(expected)) == 2
    run(golden / "dataset", name, "--out", tmp_path / "a.mp4", "--frames", 90)
    assert [text_below(frame) for frame in frames_of(tmp_path / "a.mp4")] == expected
    # The same from the index alone.
    copy = tmp_path / "copy"
    for folder in ("image", "event"):
        shutil.copytree(golden / "dataset" / folder, copy / folder)
    output = run(copy, name, "--out", tmp_path / "b.mp4", "--frames", 90)
    assert [text_below(frame) for frame in frames_of(tmp_path / "b.mp4")] == expected
    assert output == (
        f"90 frames in {tmp_path / 'b.mp4'}, with events drawn on\n"
        "  without action: the dataset has none of this episode\n"
        "  without meta_info: the dataset has none of this episode\n"
        "  without segmentation: the dataset has none of this episode\n"
    )


def test_a_range_of_frames(golden, tmp_path, film):
    out = tmp_path / "part.mp4"
    assert run(golden / "dataset", EPISODE, "--out", out, "--start", 50, "--frames", 30).startswith("30 frames in ")
    frames = frames_of(out)
    assert len(frames) == 30
    assert all(np.abs(frame - whole).mean() < 6 for frame, whole in zip(frames, film[50:80], strict=True))
    run(golden / "dataset", EPISODE, "--out", out, "--start", 190)
    assert len(frames_of(out)) == 2


def test_actions_of_another_world_are_written_out(tmp_path):
    pictures = np.full((40, 60, 80, 3), 90, np.uint8)
    with DatasetWriter(tmp_path / "set", "part-1", image_size=None) as writer, writer.episode("one") as episode:
        episode.extend(image=pictures, action={"torque": np.random.default_rng(0).normal(size=(40, 9))})
    out = tmp_path / "a.mp4"
    assert "with action drawn on\n  without meta_info" in run(tmp_path / "set", "one", "--out", out)
    # Six times as large; the text is in the panel.
    frames = frames_of(out)
    assert len(frames) == 32
    assert frames[0].shape == (6 * 60 + 56, 6 * 80 + 240, 3)
    assert (frames[0][:40, 480:].max(axis=-1) > 150).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Player1-bbbbbb"], f"there is no episode 'Player1-bbbbbb'; there are '{EPISODE}'"),
        (["nobody"], "there is no episode 'nobody'; there are 'Player1-aaaaaa-20220101-100000', "),
        ([EPISODE, "--start", "192"], f"frame 192: episode '{EPISODE}' has frames 0 to 191"),
    ],
)
def test_what_is_not_there(golden, tmp_path, arguments, message):
    with pytest.raises(MscoreError, match=message):
        run(golden / "dataset", *arguments, "--out", tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written(golden, tmp_path):
    with pytest.raises(MscoreError, match=r"nowhere/a\.mp4 cannot be written"):
        run(golden / "dataset", EPISODE, "--out", tmp_path / "nowhere" / "a.mp4")
    assert "expected a file that ends in .mp4" in run(golden / "dataset", EPISODE, "--out", tmp_path / "a.gif")


def test_damage_is_reported_and_leaves_no_film(dataset, tmp_path, edit):
    edit(dataset / "image" / "part-4", {b"(0, 64)": b"nothing of a video"})
    with pytest.raises(DatasetError, match=rf"key \(0, 64\), episode '{EPISODE}'"):
        run(dataset, EPISODE, "--out", tmp_path / "a.mp4")
    assert not list(tmp_path.glob("*a.mp4*"))
    # Another episode is none the worse.
    assert run(dataset, "solo-0", "--out", tmp_path / "a.mp4").startswith("96 frames in")
    edit(dataset / "segmentation" / "part-4", {b"(1, 0)": b"\x80\x04]."})
    with pytest.raises(DatasetError, match=r"key \(1, 0\), episode 'solo-0': it is not what segmentation should be"):
        run(dataset, "solo-0", "--out", tmp_path / "b.mp4")
