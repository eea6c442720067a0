"""Films and contact sheets can be read by others, appear complete or not at all, and cost no result."""

import av
import numpy as np
import pytest

from mscore.contracts.environment import CallableEnvironment
from mscore.evaluation import EpisodeResult, evaluate
from mscore.evaluation.captions import strip
from mscore.evaluation.video import Film, filming, write_png


def read(path):
    with av.open(str(path)) as file:
        return file.streams.video[0].codec_context.name, [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]


def test_film_and_picture(walker, corridor, tmp_path):
    video, picture = tmp_path / "new" / "film.mp4", tmp_path / "sheet.png"
    filmed = evaluate(walker, corridor, episodes=6, seed=0, video=video, picture=picture, filmed_episodes=2)
    assert (filmed.video, filmed.picture) == (video, picture)
    codec, frames = read(video)
    first = filmed.results[:2]
    assert codec == "h264"
    # One frame after the reset and one after every step, and a still of a second (8 frames).
    assert len(frames) == sum(result.length + 1 + 8 for result in first)
    height, width, _ = frames[0].shape
    assert height % 2 == width % 2 == 0
    assert width >= 320
    sheet = read(picture)[1][0]
    assert sheet.shape[1] > 6 * 320
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "film.mp4", "sheet.png"}


def test_filming_changes_no_result(walker, corridor, tmp_path):
    plain = evaluate(walker, corridor, episodes=6, seed=0)
    filmed = evaluate(walker, corridor, episodes=6, seed=0, video=tmp_path / "film.mp4")
    assert plain.video is None
    for one, other in zip(plain.results, filmed.results, strict=True):
        assert (one.seed, one.length, one.success) == (other.seed, other.length, other.success)
        assert one.episode_return == pytest.approx(other.episode_return, rel=1e-5)


def test_all_episodes_filmed_and_progress(walker, corridor, tmp_path):
    seen = []
    evaluate(walker, corridor, episodes=3, seed=5, picture=tmp_path / "a.png", filmed_episodes=9, progress=seen.append)
    assert [result.seed for result in seen] == [5, 6, 7]


def test_an_environment_that_cannot_render_is_still_evaluated(walker, corridor, tmp_path):
    def cannot_render(render_mode=None):
        if render_mode is not None:
            raise ValueError("no screen here")
        return corridor.make()

    with pytest.warns(UserWarning, match="no video: .*no screen here"):
        done = evaluate(walker, CallableEnvironment(cannot_render), episodes=5, seed=0, video=tmp_path / "film.mp4")
    assert len(done.results) == 5
    assert done.video is None
    assert not list(tmp_path.iterdir())


def test_a_failure_half_way_leaves_the_former_film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"the former film")

    def film_and_fail():
        with filming(path, tmp_path / "sheet.png") as camera:
            camera.episode_start(0, 10)
            camera.frame(np.zeros((64, 64, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film_and_fail()
    assert path.read_bytes() == b"the former film"
    assert list(tmp_path.iterdir()) == [path]


def test_pictures_of_different_sizes(tmp_path):
    film = Film(tmp_path / "film.mp4")
    for seed, shape in enumerate([(65, 401, 3), (90, 330, 3), (2000, 3000, 3)]):
        film.episode_start(seed, 5)
        film.frame(np.full(shape, 255, np.uint8))
        film.episode_end(EpisodeResult(seed, 1.0, 1, True, True))
    film.close()
    frames = read(film.path)[1]
    assert len(frames) == 3 * 6
    assert len({frame.shape for frame in frames}) == 1


def test_long_episodes_keep_few_pictures(tmp_path):
    with filming(None, tmp_path / "sheet.png") as camera:
        camera.episode_start(0, 10)
        for step in range(1001):
            camera.frame(np.full((320, 320, 3), step * 255 // 1000, np.uint8))
        camera.episode_end(EpisodeResult(0, 1.0, 1000, True, None))
    sheet = read(tmp_path / "sheet.png")[1][0]
    shades = sheet[-1, 160::324, 0].astype(int)
    assert len(shades) == 6
    assert shades[0] == 0
    assert shades[-1] == 255
    assert np.diff(shades).min() > 35  # evenly spaced
    assert np.diff(shades).max() < 70


def test_png_is_exact(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    write_png(tmp_path / "deep" / "a.png", picture)
    codec, [found] = read(tmp_path / "deep" / "a.png")
    assert codec == "png"
    assert np.array_equal(found, picture)


def test_captions():
    text = strip("T", 24, scale=2, colour=(1, 2, 3))
    assert text.shape == (22, 24, 3)
    assert (text.any(-1).sum(), text[4, 4].tolist()) == ((5 + 6) * 4, [1, 2, 3])
    assert strip("a long line that does not fit é", 30, scale=2).shape == (22, 30, 3)
