"""Vocal removal: signal path through the networks, and the file of weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loris_cli.audio.separation import (
    BATCH_COUNTER_SUFFIX,
    FRAME_LENGTH,
    HOP_LENGTH,
    PATCH_FRAMES,
    SPLEETER_RATE_HZ,
    StemUNet,
    TwoStemSeparator,
    read_pickled_weights,
)
from loris_cli.dataset.records import hash_file
from loris_cli.errors import WeightsError

# Longer than a patch and no multiple of anything: the second patch must join the first.
N_SAMPLES = PATCH_FRAMES * HOP_LENGTH + 12_345
# At its ends a tone is cut off: there it holds all frequencies, those that are masked too.
INSIDE = (slice(None), slice(FRAME_LENGTH, -FRAME_LENGTH))


class SilentStem(nn.Module):
    """A stem network that outputs silence."""

    def forward(self, mix: Tensor) -> Tensor:
        return torch.zeros_like(mix)


def tone(hz: float) -> np.ndarray:
    times_s = np.arange(N_SAMPLES) / SPLEETER_RATE_HZ
    left = np.sin(2 * np.pi * hz * times_s)
    return np.stack([0.4 * left, -0.1 * left]).astype(np.float32)


def build_separator(*, vocals: nn.Module, accompaniment: nn.Module) -> TwoStemSeparator:
    separator = TwoStemSeparator().eval()
    separator.vocals, separator.accompaniment = vocals, accompaniment  # type: ignore[assignment]
    return separator


def separate(separator: TwoStemSeparator, mix: np.ndarray, n_blocks: int = 1) -> np.ndarray:
    blocks = np.array_split(mix, n_blocks, axis=1)
    return np.concatenate(list(separator.remove_vocals(blocks)), axis=1)


def test_without_voices_the_music_is_the_mix() -> None:
    mix = tone(440)
    out = separate(build_separator(vocals=SilentStem(), accompaniment=nn.Identity()), mix)
    assert out.shape == mix.shape
    np.testing.assert_allclose(out[INSIDE], mix[INSIDE], atol=2e-4)


def test_two_stems_alike_get_half_each() -> None:
    mix = tone(440)
    out = separate(build_separator(vocals=nn.Identity(), accompaniment=nn.Identity()), mix)
    np.testing.assert_allclose(out[INSIDE], mix[INSIDE] / 2, atol=2e-4)


def test_what_the_network_does_not_hear_goes_to_neither() -> None:
    separator = build_separator(vocals=SilentStem(), accompaniment=nn.Identity())
    assert np.abs(separate(separator, tone(14_000))[INSIDE]).max() < 1e-3


@pytest.mark.parametrize("n_blocks", [3, 50])
def test_how_the_sound_comes_in_makes_no_difference(n_blocks: int) -> None:
    separator = build_separator(vocals=SilentStem(), accompaniment=nn.Identity())
    mix = np.random.default_rng(0).normal(0, 0.1, (2, N_SAMPLES)).astype(np.float32)
    np.testing.assert_array_equal(separate(separator, mix, n_blocks), separate(separator, mix))


def test_no_sound_gives_none() -> None:
    separator = build_separator(vocals=SilentStem(), accompaniment=nn.Identity())
    nothing: Iterator[np.ndarray] = iter(())
    assert list(separator.remove_vocals(nothing)) == []


def test_the_network_is_as_large_as_deezers() -> None:
    sizes = {
        name: value.numel()
        for name, value in StemUNet().state_dict().items()
        if not name.endswith(BATCH_COUNTER_SUFFIX)
    }
    assert sum(sizes.values()) == 9_826_759


def test_the_network_gives_a_share_of_the_mix() -> None:
    torch.manual_seed(0)
    mix = torch.rand(1, 2, 64, 64)
    with torch.no_grad():
        stem = StemUNet().eval()(mix)
    assert stem.shape == mix.shape
    assert bool(((stem > 0) & (stem < mix)).all())


def save_and_hash(path: Path, content: object) -> str:
    torch.save(content, path)
    return hash_file(path)[0]


def test_arrays_are_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    digest = save_and_hash(tmp_path / "a.ckpt", {"w": array})
    found = read_pickled_weights(tmp_path / "a.ckpt", sha256=digest)
    np.testing.assert_array_equal(found["w"].numpy(), array)


class MaliciousPickle:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("harm done",))


@pytest.mark.parametrize(
    "content",
    [
        {"w": MaliciousPickle()},
        [np.zeros(2, np.float32)],
        {"w": np.zeros(2, np.int64)},
        {"w": np.array([MaliciousPickle()])},
    ],
)
def test_anything_but_arrays_is_refused(
    content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = save_and_hash(tmp_path / "a.ckpt", content)
    with pytest.raises(WeightsError, match=r"objects that could run code|more than arrays"):
        read_pickled_weights(tmp_path / "a.ckpt", sha256=digest)
    assert "harm" not in capsys.readouterr().out


def test_another_file_is_not_even_opened(tmp_path: Path) -> None:
    save_and_hash(tmp_path / "a.ckpt", {"w": np.zeros(2, np.float32)})
    with pytest.raises(WeightsError, match="not the file"):
        read_pickled_weights(tmp_path / "a.ckpt", sha256="0" * 64)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_pickled_weights(tmp_path / "none.ckpt", sha256="0" * 64)
