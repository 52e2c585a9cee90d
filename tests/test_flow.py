"""Rhythm from optical flow, for a textured patch that moves over a textured background."""

import tracemalloc
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.errors import InputError
from loris_cli.rhythm import flow_rhythm
from loris_cli.rhythm.block_matching import match_blocks
from loris_cli.rhythm.flow_rhythm import FlowTrajectories, rhythm_from_flow
from loris_cli.rhythm.impact_refinement import refine_impact
from loris_cli.rhythm.trajectories import resample_positions
from loris_cli.video.frames import Frame

pytestmark = pytest.mark.numpy1

HEIGHT_PX, WIDTH_PX, PATCH_PX = 180, 240, 70
FPS = 16.0


def make_texture(rng: np.random.Generator, height: int, width: int) -> Array:
    """Smoothed noise with a mean of 128 and a standard deviation of 45 grey levels."""
    blurred = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 2.5)
    return np.asarray(128 + 45 * blurred / blurred.std())


def shift_image(image: Array, x: float, y: float) -> Array:
    """Shift an image by a subpixel offset, into an image of the size of a frame."""
    matrix = np.array([[1, 0, x], [0, 1, y]], dtype=np.float64)
    return np.asarray(cv2.warpAffine(image, matrix, (WIDTH_PX, HEIGHT_PX)))


def make_patch_frames(
    positions: Array, times_s: Array, *, noise: float = 0.0, pan_px: float = 0.0
) -> Iterator[Frame]:
    """Frames of a patch in front of a background.

    Args:
        positions: offset of the patch from the center in px, ``(frames, 2)``.
        times_s: times of the frames, ``(frames,)``.
        noise: standard deviation of the noise of each pixel, in grey levels.
        pan_px: amplitude of the camera motion.
    """
    rng = np.random.default_rng(0)
    background = make_texture(rng, 2 * HEIGHT_PX, 2 * WIDTH_PX)
    patch = make_texture(rng, PATCH_PX, PATCH_PX)
    for (x, y), time_s in zip(positions, times_s, strict=True):
        pan = pan_px * np.sin(time_s)
        image = shift_image(background, -WIDTH_PX / 2 + pan, -HEIGHT_PX / 2)
        offset = ((WIDTH_PX - PATCH_PX) / 2 + x + pan, (HEIGHT_PX - PATCH_PX) / 2 + y)
        mask = shift_image(np.ones((PATCH_PX, PATCH_PX)), *offset)
        image = image * (1 - mask) + shift_image(patch, *offset) * mask
        image = image + noise * rng.normal(size=image.shape)
        grey = image.clip(0, 255).astype(np.uint8)
        yield Frame(time_s=float(time_s), rgb=np.repeat(grey[..., None], 3, axis=-1))


def make_static_frames(
    n_frames: int, *, noise: float = 0.0, pan_px: float = 0.0
) -> Iterator[Frame]:
    times_s = np.arange(n_frames) / FPS
    return make_patch_frames(np.zeros((n_frames, 2)), times_s, noise=noise, pan_px=pan_px)


def sample_impacts(
    duration_s: float, seed: int, fps: float = FPS
) -> tuple[Array, Array, Array]:
    """Motion with abrupt stops: positions, frame times, and the times of the stops."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(round(duration_s * fps)) / fps
    impacts_s = np.arange(1.0, duration_s - 0.8, 1.1)
    impacts_s = impacts_s + rng.uniform(-0.1, 0.1, len(impacts_s))
    positions = np.zeros((len(times_s), 2))
    for impact_s in impacts_s:
        burst_s, direction = rng.uniform(0.15, 0.25), rng.uniform(0, 2 * np.pi)
        burst = ((times_s - impact_s + burst_s) / burst_s).clip(0, 1) ** 1.5
        recovery = ((times_s - impact_s - 0.1) / 0.55).clip(0, 1)
        offset = burst - recovery**3 * (10 - 15 * recovery + 6 * recovery**2)
        unit = [np.cos(direction), np.sin(direction)]
        positions += rng.uniform(20, 40) * np.outer(offset, unit)
    return positions, times_s, impacts_s


def compute_offsets_s(peaks_s: Array, impacts_s: Array) -> Array:
    """Return the offset of the nearest peak from each impact, ``(impacts,)``."""
    nearest = np.abs(peaks_s[None] - impacts_s[:, None]).argmin(axis=1)
    return np.asarray(peaks_s[nearest] - impacts_s)


@pytest.mark.parametrize(
    ("noise", "pan_px"), [(0, 0), (5, 0), (5, 20)], ids=["clean", "noise", "noise and pan"]
)
def test_peaks_are_at_the_impacts(noise: float, pan_px: float) -> None:
    positions, times_s, impacts_s = sample_impacts(12, seed=1)

    rhythm = rhythm_from_flow(make_patch_frames(positions, times_s, noise=noise, pan_px=pan_px))

    offsets_s = compute_offsets_s(rhythm.times_s, impacts_s)
    assert abs(np.median(offsets_s)) < 0.015
    assert np.mean(np.abs(offsets_s) < 0.07) >= 0.8
    assert rhythm.method == "flow"
    assert rhythm.envelope.shape == (192,)
    assert rhythm.duration_s == 12


def test_frames_at_25_fps_from_a_later_start_are_resampled() -> None:
    positions, times_s, impacts_s = sample_impacts(8, seed=2, fps=25)

    rhythm = rhythm_from_flow(make_patch_frames(positions, times_s + 3))

    assert rhythm.envelope_rate_hz == 16
    assert len(rhythm.envelope) == pytest.approx(8 * 16, abs=1)
    assert np.mean(np.abs(compute_offsets_s(rhythm.times_s, impacts_s)) < 0.07) >= 0.8


def measure_errors_s(fps: float, n_dropped_of_10: int = 0) -> Array:
    """Return the absolute errors of the impacts of three clips that start at 3 s."""
    offsets_s = []
    for seed in (1, 2, 3):
        positions, times_s, impacts_s = sample_impacts(6, seed=seed, fps=fps)
        is_read = np.random.default_rng(seed).random(len(times_s)) * 10 >= n_dropped_of_10
        is_read[0] = True
        rhythm = rhythm_from_flow(make_patch_frames(positions[is_read], times_s[is_read] + 3))
        offsets_s.append(compute_offsets_s(rhythm.times_s, impacts_s))
    return np.abs(np.concatenate(offsets_s))


def test_impacts_at_10_fps_are_located_within_half_a_frame() -> None:
    errors_s = measure_errors_s(10)

    assert np.median(errors_s) < 0.05
    assert np.mean(errors_s < 0.06) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("fps", [5, 15, 24, 25, 30, 60, 120, 240])
def test_impacts_are_located_within_half_a_frame(fps: float) -> None:
    assert np.median(measure_errors_s(fps)) < 0.5 / fps


@pytest.mark.slow
@pytest.mark.parametrize("fps", [30, 60])
def test_impacts_of_videos_with_dropped_frames_are_located(fps: float) -> None:
    # Half of the mean interval of the remaining frames.
    assert np.median(measure_errors_s(fps, n_dropped_of_10=3)) < 0.5 / (0.7 * fps)


@pytest.mark.parametrize("fps", [16, 24, 25, 30, 60, 120, 240])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.7])
def test_stop_is_located_on_the_frames(fps: float, phase: float) -> None:
    stop_s, times_s = 1.0 + phase / fps, np.arange(2 * fps) / fps
    positions = 30 * np.minimum(times_s, stop_s)[:, None, None] * np.ones((4, 2))

    refined_s = refine_impact(stop_s + 0.03, positions, times_s, fps=16)

    assert refined_s == pytest.approx(stop_s, abs=1e-6)


@pytest.mark.parametrize("n_frames", [0, 1, 2, 5])
def test_impact_between_few_frames_is_not_moved(n_frames: int) -> None:
    positions = np.ones((n_frames, 4, 2)) * np.arange(n_frames)[:, None, None]

    assert refine_impact(0.1, positions, np.arange(n_frames) / 25, fps=16) == 0.1


def test_blocks_of_a_shifted_image_are_matched() -> None:
    texture = make_texture(np.random.default_rng(0), 96, 160).clip(0, 255).astype(np.uint8)

    flow = match_blocks(texture[:72, :128], texture[8:80, 12:140], cell_px=8)

    np.testing.assert_array_equal(flow[24:48, 32:96], np.broadcast_to([-12, -8], (24, 64, 2)))
    assert not match_blocks(texture, texture, cell_px=8).any()


@pytest.mark.parametrize("noise", [0, 5, 10])
def test_static_video_is_refused(noise: float) -> None:
    with pytest.raises(InputError, match="motion") as raised:
        rhythm_from_flow(make_static_frames(40, noise=noise))
    assert raised.value.hint


def test_camera_pan_over_a_static_scene_is_refused() -> None:
    with pytest.raises(InputError, match="motion"):
        rhythm_from_flow(make_static_frames(60, pan_px=6))


@pytest.mark.parametrize("n_frames", [0, 1, 2])
def test_fewer_than_three_frames_are_refused(n_frames: int) -> None:
    with pytest.raises(InputError, match=rf"\b{n_frames}\b"):
        rhythm_from_flow(make_static_frames(n_frames))


def test_change_of_the_frame_shape_is_refused() -> None:
    trajectories = FlowTrajectories()
    trajectories.add_frame(Frame(time_s=0.0, rgb=np.zeros((180, 240, 3), np.uint8)))

    with pytest.raises(InputError, match="size"):
        trajectories.add_frame(Frame(time_s=0.1, rgb=np.zeros((240, 180, 3), np.uint8)))


def compute_trajectories(frames: Iterator[Frame]) -> tuple[Array, Array]:
    trajectories = FlowTrajectories()
    for frame in frames:
        trajectories.add_frame(frame)
    return trajectories.trajectories()


def test_cells_move_with_the_patch_and_not_elsewhere() -> None:
    # 1.5 px per frame at a width of 240 px are 0.8 px at a width of 128 px.
    times_s = np.arange(8) / FPS
    positions = np.outer(np.arange(8), [1.5, 0.0])

    cells, cell_times_s = compute_trajectories(make_patch_frames(positions, times_s))

    np.testing.assert_allclose(cell_times_s, times_s)
    last = cells.reshape(8, 12, 16, 2)[-1]
    np.testing.assert_allclose(last[5:7, 7:9].mean(axis=(0, 1)), [7 * 0.8, 0], atol=0.6)
    np.testing.assert_allclose(last[0], 0, atol=0.05)


def test_frames_whose_time_does_not_increase_are_ignored() -> None:
    times_s = np.array([0, 0.1, 0.1, 0.05, 0.2])

    _, cell_times_s = compute_trajectories(make_patch_frames(np.zeros((5, 2)), times_s))

    assert cell_times_s.tolist() == [0, 0.1, 0.2]


def test_frames_are_not_kept_in_memory() -> None:
    n_alive = 0

    class CountedFrame(Frame):
        def __init__(self, time_s: float, rgb: NDArray[np.uint8]) -> None:
            nonlocal n_alive
            n_alive += 1
            super().__init__(time_s=time_s, rgb=rgb)

        def __del__(self) -> None:
            nonlocal n_alive
            n_alive -= 1

    def count_frames() -> Iterator[Frame]:
        positions = np.outer(np.arange(20), [1.0, 0])
        for frame in make_patch_frames(positions, np.arange(20) / FPS):
            assert n_alive <= 2
            yield CountedFrame(frame.time_s, frame.rgb)

    rhythm_from_flow(count_frames())


@pytest.mark.parametrize("fps", [10.0, 25.0, 60.0])
def test_resampling_in_blocks_equals_resampling_at_once(
    fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, times_s, _ = sample_impacts(6, seed=3, fps=fps)
    tracked = FlowTrajectories()
    for frame in make_patch_frames(positions, times_s + 1):
        tracked.add_frame(frame)
    cells, cell_times_s = tracked.trajectories()
    monkeypatch.setattr(flow_rhythm, "BLOCK_FRAMES", 7)
    resampled, _ = tracked.resample(fps=16)
    expected = resample_positions(
        cells, cell_times_s - cell_times_s[0], n_frames=len(resampled), fps=16
    )
    np.testing.assert_allclose(resampled, expected, atol=1e-4)


@pytest.mark.slow
def test_ten_minutes_of_flow_need_less_than_100_mib() -> None:
    rng = np.random.default_rng(0)
    tracked = FlowTrajectories()
    tracemalloc.start()
    try:
        for k in range(18_000):
            tracked._times_s.append(k / 30)
            tracked._displacements.append(rng.normal(size=(144, 2)).astype(np.float32))
        tracked.compute_rhythm()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100 * 2**20
