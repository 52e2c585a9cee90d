"""Rhythm from the picture alone: a textured patch before a textured wall."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from loris_cli.errors import InputError
from loris_cli.rhythm.flow_rhythm import FlowTrajectories, rhythm_from_flow
from loris_cli.video.frames import Frame

Array = NDArray[np.float64]

HEIGHT, WIDTH, PATCH = 180, 240, 70
FPS = 16.0


def texture(rng: np.random.Generator, height: int, width: int) -> Array:
    blurred = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 2.5)
    return np.asarray(128 + 45 * blurred / blurred.std())


def shifted(image: Array, x: float, y: float) -> Array:
    across = np.array([[1, 0, x], [0, 1, y]], dtype=np.float64)
    return np.asarray(cv2.warpAffine(image, across, (WIDTH, HEIGHT)))


def moving_patch(
    paths: Array, times_s: Array, *, noise: float = 0.0, pan: float = 0.0
) -> Iterator[Frame]:
    """Frames of a patch on a given path before a wall, by a camera that may pan."""
    rng = np.random.default_rng(0)
    wall, patch = texture(rng, 2 * HEIGHT, 2 * WIDTH), texture(rng, PATCH, PATCH)
    for (x, y), time_s in zip(paths, times_s, strict=True):
        aside = pan * np.sin(time_s)
        image = shifted(wall, -WIDTH / 2 + aside, -HEIGHT / 2)
        offset = (WIDTH / 2 - PATCH / 2 + x + aside, HEIGHT / 2 - PATCH / 2 + y)
        cover = shifted(np.ones((PATCH, PATCH)), *offset)
        image = image * (1 - cover) + shifted(patch, *offset) * cover
        image = image + noise * rng.normal(size=image.shape)
        grey = image.clip(0, 255).astype(np.uint8)
        yield Frame(time_s=float(time_s), rgb=np.repeat(grey[..., None], 3, axis=-1))


def strikes(duration_s: float, seed: int, fps: float = FPS) -> tuple[Array, Array, Array]:
    """Positions, frame times and the times of the hard stops."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(round(duration_s * fps)) / fps
    strikes_s = np.arange(1.0, duration_s - 0.8, 1.1)
    strikes_s = strikes_s + rng.uniform(-0.1, 0.1, len(strikes_s))
    paths = np.zeros((len(times_s), 2))
    for strike_s in strikes_s:
        burst_s, turn = rng.uniform(0.15, 0.25), rng.uniform(0, 2 * np.pi)
        burst = ((times_s - strike_s + burst_s) / burst_s).clip(0, 1) ** 1.5
        home = ((times_s - strike_s - 0.1) / 0.55).clip(0, 1)
        offset = burst - home**3 * (10 - 15 * home + 6 * home**2)
        paths += rng.uniform(20, 40) * np.outer(offset, [np.cos(turn), np.sin(turn)])
    return paths, times_s, strikes_s


def offsets_s(times_s: Array, strikes_s: Array) -> Array:
    nearest = np.abs(times_s[None] - strikes_s[:, None]).argmin(axis=1)
    return np.asarray(times_s[nearest] - strikes_s)


@pytest.mark.parametrize(("noise", "pan"), [(0, 0), (5, 0), (5, 20)])
def test_strikes_are_met(noise: float, pan: float) -> None:
    paths, times_s, strikes_s = strikes(20, seed=1)
    rhythm = rhythm_from_flow(moving_patch(paths, times_s, noise=noise, pan=pan))

    offsets = offsets_s(rhythm.times_s, strikes_s)
    assert abs(np.median(offsets)) < 0.015
    assert np.mean(np.abs(offsets) < 0.07) >= 0.8
    assert rhythm.method == "flow"
    assert rhythm.envelope.shape == (320,)
    assert rhythm.duration_s == 20


def test_frames_of_any_rate_will_do() -> None:
    paths, times_s, strikes_s = strikes(12, seed=2, fps=25)
    rhythm = rhythm_from_flow(moving_patch(paths, times_s + 3))

    assert rhythm.envelope_rate_hz == 16
    assert len(rhythm.envelope) == pytest.approx(12 * 16, abs=1)
    assert np.mean(np.abs(offsets_s(rhythm.times_s, strikes_s)) < 0.07) >= 0.8


@pytest.mark.parametrize("noise", [0, 5, 10])
def test_a_still_picture_is_refused(noise: float) -> None:
    times_s = np.arange(60) / FPS
    with pytest.raises(InputError, match="nothing moves") as caught:
        rhythm_from_flow(moving_patch(np.zeros((60, 2)), times_s, noise=noise))
    assert caught.value.hint


def test_a_camera_that_pans_past_a_wall_is_no_movement() -> None:
    times_s = np.arange(60) / FPS
    with pytest.raises(InputError, match="nothing moves"):
        rhythm_from_flow(moving_patch(np.zeros((60, 2)), times_s, pan=6))


@pytest.mark.parametrize("n_frames", [0, 1, 2])
def test_too_few_frames_are_refused(n_frames: int) -> None:
    times_s = np.arange(n_frames) / FPS
    with pytest.raises(InputError, match="too few"):
        rhythm_from_flow(moving_patch(np.zeros((n_frames, 2)), times_s))


def cell_trajectories(frames: Iterator[Frame]) -> tuple[Array, Array]:
    flow = FlowTrajectories()
    for frame in frames:
        flow.add_frame(frame)
    return flow.trajectories()


def test_a_cell_follows_what_moves_in_it() -> None:
    # 1.5 px a frame of a picture 240 wide are 0.8 px a frame at a width of 128.
    times_s = np.arange(8) / FPS
    paths = np.outer(np.arange(8), [1.5, 0.0])
    cells, seconds = cell_trajectories(moving_patch(paths, times_s))

    np.testing.assert_allclose(seconds, times_s)
    middle = cells.reshape(8, 12, 16, 2)[-1, 5:7, 7:9].mean(axis=(0, 1))
    np.testing.assert_allclose(middle, [7 * 0.8, 0], atol=0.6)
    np.testing.assert_allclose(cells.reshape(8, 12, 16, 2)[-1, 0], 0, atol=0.05)


def test_a_time_that_does_not_rise_is_left_out() -> None:
    times_s = np.array([0, 0.1, 0.1, 0.05, 0.2])
    _, seconds = cell_trajectories(moving_patch(np.zeros((5, 2)), times_s))
    assert seconds.tolist() == [0, 0.1, 0.2]


def test_one_picture_at_a_time_is_held() -> None:
    n_alive = 0

    class Counted(Frame):
        def __init__(self, time_s: float, rgb: NDArray[np.uint8]) -> None:
            nonlocal n_alive
            n_alive += 1
            super().__init__(time_s=time_s, rgb=rgb)

        def __del__(self) -> None:
            nonlocal n_alive
            n_alive -= 1

    def counted() -> Iterator[Frame]:
        for frame in moving_patch(np.outer(np.arange(20), [1.0, 0]), np.arange(20) / FPS):
            assert n_alive <= 2
            yield Counted(frame.time_s, frame.rgb)

    rhythm_from_flow(counted())
