"""``loris soundtrack`` with a small checkpoint in the released format."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from builders import make_features
from conftest import CliResult, RunLoris
from device_copies import HostToDeviceCopyCounter
from tiny_models import TINY_PAPER_CONFIG

from loris_cli.config import SamplerName
from loris_cli.models import i3d_resnet50
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.load_model import load_paper_checkpoint
from loris_cli.models.paper_checkpoint import (
    load_paper_model,
    save_paper_model,
    save_released_format,
)
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import PaperModel
from loris_cli.soundtrack import generators
from loris_cli.soundtrack.inpainting import InpaintRegion
from loris_cli.soundtrack.waveform_generator import WaveformGenerator
from loris_cli.system.device import is_bf16_slow, resolve_dtype
from loris_cli.system.file_fingerprints import compute_sha256

CPU = torch.device("cpu")
RATE_HZ = 22_050
OFFICIAL_CLIP_SAMPLES = 2**15
"""Audio of a clip of 2 s in the official variant (docs/differences.md, D6)."""
MAX_BF16_ERRORS = {1.0: 0.02, 20.0: 0.1}
"""Relative error of the audio by guidance scale; measured: 0.0075 and 0.030."""
# The width of the visual features differs from all other widths.
CONFIG = replace(TINY_PAPER_CONFIG, visual_features=24, n_genres=10)


def make_network(config: PaperConfig = CONFIG) -> PaperModel:
    """Random network that counts as trained, because its gains differ from one."""
    torch.manual_seed(0)
    network = PaperModel(config)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(".g"):
                value.add_(0.1 * torch.randn_like(value))
    return network


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "loris_dance2_epoch1.pt"
    save_released_format(path, make_network())
    return path


@pytest.fixture
def video(tmp_path: Path, moving_video: Path) -> Path:
    path = tmp_path / "dance.mp4"
    path.write_bytes(moving_video.read_bytes())
    return path


@pytest.fixture
def run_soundtrack(loris: RunLoris, checkpoint: Path, video: Path, pose_file: Path) -> RunLoris:
    def run(*arguments: object) -> CliResult:
        fixed = ("--model", checkpoint, "--poses", pose_file, "--steps", 3)
        return loris("soundtrack", video, *fixed, *arguments)

    return run


def write_visual_features(folder: Path, n_rows: int = 4, width: int = 24) -> Path:
    path = folder / "dance.i3d.npy"
    rows = np.random.default_rng(0).normal(size=(n_rows, width, 1, 1))
    np.save(path, rows.astype(np.float32))
    return path


def test_released_checkpoint_generates_a_soundtrack(
    run_soundtrack: RunLoris, video: Path, tmp_path: Path, cache_dir: Path
) -> None:
    visual = write_visual_features(tmp_path)
    result = run_soundtrack("--visual-features", visual, "--json", "--genre", "house")

    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert (row["model"], row["sampler"], row["guidance"]) == (
        "loris_dance2_epoch1.pt",
        "adpm2",
        20.0,
    )
    assert (row["n_windows"], row["n_network_evaluations"], row["warnings"]) == (1, 4, [])
    assert video.with_name("dance.loris.mp4").exists()
    records = [json.loads(path.read_text()) for path in cache_dir.glob("*.json")]
    assert [record["sha256"][:12] for record in records] == [row["fingerprint"]]
    assert [path.stem for path in cache_dir.glob("*.safetensors")] == [records[0]["sha256"]]


def test_cached_conversion_generates_the_same_audio(
    run_soundtrack: RunLoris, checkpoint: Path, video: Path
) -> None:
    from_released, from_cache = video.with_name("released.wav"), video.with_name("cache.wav")
    assert run_soundtrack("-o", from_released).exit_code == 0
    # Only the first bytes, the size and the time of the checkpoint are left.
    stat = checkpoint.stat()
    checkpoint.write_bytes(b"PK\x03\x04" + bytes(stat.st_size - 4))
    os.utime(checkpoint, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    generators.load_model_cached.cache_clear()
    assert run_soundtrack("-o", from_cache).exit_code == 0
    assert from_released.read_bytes() == from_cache.read_bytes()


def test_changed_checkpoint_is_reloaded_with_a_warning(checkpoint: Path) -> None:
    assert load_paper_checkpoint(checkpoint, device=CPU).warnings == ()
    old_sha256 = compute_sha256(checkpoint)
    network = make_network()
    with torch.no_grad():
        network.cond_lin.bias.add_(1)
    save_released_format(checkpoint, network)

    loaded = load_paper_checkpoint(checkpoint, device=CPU)

    (warning,) = loaded.warnings
    for value in (str(checkpoint), old_sha256[:12], compute_sha256(checkpoint)[:12]):
        assert value in warning
    assert torch.equal(loaded.network.cond_lin.bias, network.cond_lin.bias)


def test_damaged_cached_conversion_is_rewritten(checkpoint: Path, cache_dir: Path) -> None:
    load_paper_checkpoint(checkpoint, device=CPU)
    (converted,) = cache_dir.glob("*.safetensors")
    converted.write_bytes(converted.read_bytes()[:5000])

    load_paper_checkpoint(checkpoint, device=CPU)

    weights = load_paper_model(converted, device=CPU).cond_lin.weight
    assert torch.equal(weights, make_network().cond_lin.weight)


def test_checkpoint_is_loaded_if_the_cache_is_not_writable(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "file"))
    network = load_paper_checkpoint(checkpoint, device=CPU).network
    assert torch.equal(network.cond_lin.weight, make_network().cond_lin.weight)


def test_missing_visual_features_cause_a_warning(run_soundtrack: RunLoris) -> None:
    result = run_soundtrack()
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "--visual-features" in result.stderr


@pytest.mark.parametrize(
    ("n_rows", "width", "values"),
    [(4, 20, ["20", "24"]), (1, 24, ["0.5 s", "2.0 s"])],
    ids=["width", "duration"],
)
def test_visual_features_of_another_size_are_rejected(
    run_soundtrack: RunLoris, tmp_path: Path, n_rows: int, width: int, values: list[str]
) -> None:
    path = write_visual_features(tmp_path, n_rows, width)
    result = run_soundtrack("--visual-features", path)
    assert result.exit_code == 4
    assert re.search(rf"{path}.*\b" + r"\b.*\b".join(values), result.stderr)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--genre", "skate"], "skate"),
        (["--guidance-interval", "0.8", "0.2"], "--guidance-interval 0.8 0.2"),
        (["--visual-features", "rgb.pt"], r"i3d\b.*\b1024\b.*\b24"),
        (["--visual-features", "i3d-r50"], r"i3d-r50\b.*\b2048\b.*\b24"),
        (["--visual-features", "i3d"], "'i3d'"),
    ],
    ids=["genre", "guidance-interval", "i3d-width", "i3d-r50-width", "i3d-without-weights"],
)
def test_options_that_do_not_fit_the_model_are_usage_errors(
    run_soundtrack: RunLoris, arguments: list[str], value: str
) -> None:
    result = run_soundtrack(*arguments)
    assert result.exit_code == 2
    assert re.search(rf"error: .*{value}\b" if value[-1] != "'" else value, result.stderr)


def test_offline_run_reports_url_and_path_of_i3d_r50_weights(
    loris: RunLoris, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "http://zoo.example/a.pyth"
    hub = type("Hub", (), {"checkpoint_paths": {"i3d_r50": url}})
    monkeypatch.setattr(i3d_resnet50, "_import_pytorchvideo_hub", lambda submodule="": hub)
    model = tmp_path / "wide.safetensors"
    save_paper_model(model, make_network(replace(CONFIG, visual_features=2048)))
    for offline in (["--offline"], []):
        monkeypatch.setenv("HF_HUB_OFFLINE", "0" if offline else "1")
        arguments = ("--model", model, "--visual-features", "i3d-r50", *offline)
        result = loris("soundtrack", video, *arguments)
        assert result.exit_code == 3
        assert "disabled" in result.stderr
        assert url in result.stderr
        assert str(tmp_path / "cache" / "weights" / "I3D_8x8_R50.pyth") in result.stderr


@pytest.mark.legacy
def test_i3d_r50_features_condition_the_network(
    loris: RunLoris, video: Path, pose_file: Path, tmp_path: Path, resnet_weights: Path
) -> None:
    model = tmp_path / "wide.safetensors"
    save_paper_model(model, make_network(replace(CONFIG, visual_features=2048)))
    fixed = ("--model", model, "--poses", pose_file, "--steps", 2, "--genre", "house")
    result = loris(
        "soundtrack", video, *fixed, "--visual-features", f"i3d-r50={resnet_weights}", "--json"
    )
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["visual"] == f"i3d-r50={resnet_weights}"
    assert row["warnings"] == []


def test_visual_features_for_the_mini_model_are_a_usage_error(
    loris: RunLoris, video: Path, small_model: Path, tmp_path: Path
) -> None:
    visual = write_visual_features(tmp_path)
    result = loris("soundtrack", video, "--model", small_model, "--visual-features", visual)
    assert result.exit_code == 2
    assert small_model.name in result.stderr
    assert "--visual-features" in result.stderr


def test_untrained_checkpoint_is_rejected(run_soundtrack: RunLoris, checkpoint: Path) -> None:
    save_released_format(checkpoint, PaperModel(CONFIG))
    result = run_soundtrack()
    assert result.exit_code == 3
    assert "untrained" in result.stderr


def test_preset_name_is_not_a_model(loris: RunLoris, video: Path) -> None:
    result = loris("soundtrack", video, "--model", "paper")
    assert result.exit_code == 3
    assert "'paper'" in result.stderr
    assert ".safetensors" in result.stderr


def make_pose_features(duration_s: float, **fields: Any) -> ClipFeatures:
    """Features of a clip with poses on a random walk."""
    rng = np.random.default_rng(1)
    keypoints = 5 * np.cumsum(rng.normal(size=(round(16 * duration_s), 17, 3)), axis=0)
    keypoints[..., 2] = 0.9
    return make_features(duration_s, **{"keypoints": keypoints, **fields})


def generate_samples(
    path: Path, clip: ClipFeatures, seed: int = 0, *, compiled: bool = False, **options: object
) -> np.ndarray:
    model = load_paper_checkpoint(path, device=CPU)
    if compiled:
        model.network.unet.compile(backend="eager")
    options = {"steps": 3, "sampler": "dpmpp-2m", **options}
    generator = WaveformGenerator(model=model, device=CPU, **options)  # type: ignore[arg-type]
    progress: list[tuple[int, int]] = []
    blocks = generator.generate(
        clip, seed=seed, progress=lambda done, total: progress.append((done, total))
    )
    samples = np.concatenate(list(blocks), axis=1)
    n_evaluations = generator.compute_window_layout(clip.duration_s).n_evaluations
    assert progress == [(k + 1, n_evaluations) for k in range(n_evaluations)]
    return samples


@pytest.mark.slow
@pytest.mark.parametrize("duration_s", [0.7, 2.0, 2.3, 7.13])
def test_generated_audio_has_the_length_of_the_clip(
    checkpoint: Path, duration_s: float
) -> None:
    samples = generate_samples(checkpoint, make_pose_features(duration_s))
    assert samples.shape == (2, round(duration_s * RATE_HZ))
    assert np.isfinite(samples).all()
    assert 0 < np.abs(samples).max() <= 1


def has_repeated_end(samples: np.ndarray) -> bool:
    """Return whether the last samples repeat those before the end of the official clip."""
    n_missing = samples.shape[1] - OFFICIAL_CLIP_SAMPLES
    assert n_missing == 44_100 - 32_768
    end = samples[:, OFFICIAL_CLIP_SAMPLES - n_missing : OFFICIAL_CLIP_SAMPLES]
    return np.array_equal(samples[:, -n_missing:], end)


def test_official_variant_repeats_the_end_of_a_clip(checkpoint: Path) -> None:
    assert has_repeated_end(generate_samples(checkpoint, make_pose_features(2.0)))


def test_paper_variant_generates_the_whole_clip(tmp_path: Path) -> None:
    path = tmp_path / "paper.safetensors"
    save_paper_model(path, make_network())
    assert not has_repeated_end(generate_samples(path, make_pose_features(2.0)))


@pytest.mark.parametrize("sampler", ["adpm2", "euler-ancestral", "dpmpp-2m-sde"])
def test_seed_determines_the_audio(checkpoint: Path, sampler: str) -> None:
    clip = make_pose_features(2.0)
    first, same_seed, other_seed = (
        generate_samples(checkpoint, clip, seed, sampler=sampler) for seed in (4, 4, 5)
    )
    assert np.array_equal(first, same_seed)
    assert not np.allclose(first, other_seed)


def test_genre_visual_features_and_poses_change_the_audio(checkpoint: Path) -> None:
    fields = {"genre": "house", "visual": np.ones((4, 24))}
    clip = make_pose_features(2.0, **fields)
    assert clip.keypoints is not None
    reference = generate_samples(checkpoint, clip)
    changes = {
        "genre": "krump",
        "visual": np.linspace(-1, 1, 96).reshape(4, 24),
        "keypoints": np.flip(clip.keypoints, axis=0),
    }
    for name, value in changes.items():
        changed = generate_samples(
            checkpoint, make_pose_features(2.0, **{**fields, name: value})
        )
        assert not np.allclose(reference, changed, atol=1e-6), name


def test_guidance_interval_limits_guidance_to_its_steps(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales: list[float] = []
    denoise_batches = WaveformGenerator._denoise_batches

    def record_scale(
        generator: WaveformGenerator, batches: Any, sigma: float, scale: float
    ) -> list[torch.Tensor]:
        scales.append(scale)
        return denoise_batches(generator, batches, sigma, scale)

    monkeypatch.setattr(WaveformGenerator, "_denoise_batches", record_scale)
    clip = make_pose_features(2.0)
    audio = [
        generate_samples(checkpoint, clip, steps=6, **options)
        for options in (
            {"guidance": 1.0},
            {"guidance_interval": (0.3, 0.7)},
            {"guidance": 20.0},
        )
    ]
    assert scales[:6] == [1.0] * 6
    assert scales[6:12] == [1.0, 20.0, 20.0, 20.0, 20.0, 1.0]
    assert scales[12:] == [20.0] * 6
    assert not np.allclose(audio[0], audio[1], atol=1e-6)
    assert not np.allclose(audio[1], audio[2], atol=1e-6)


def test_audio_file_is_stereo_at_22050_hz(run_soundtrack: RunLoris, video: Path) -> None:
    assert run_soundtrack("-o", video.with_name("out.wav")).exit_code == 0
    samples, rate_hz = soundfile.read(video.with_name("out.wav"))
    assert rate_hz == RATE_HZ
    assert samples.shape == (2 * RATE_HZ, 2)


def make_noise(duration_s: float, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    """Stereo noise, clipped so that the peak does not depend on the seed."""
    size = (2, round(duration_s * RATE_HZ))
    noise = np.random.default_rng(seed).normal(0, scale, size).astype(np.float32)
    return np.clip(noise, -2 * scale, 2 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("duration_s", [2.0, 3.6])
def test_inpainting_keeps_other_samples_and_depends_on_them(
    checkpoint: Path, duration_s: float
) -> None:
    clip, original = make_pose_features(duration_s), make_noise(duration_s)
    region = InpaintRegion(original=original, start_s=0.5, end_s=1.3)
    inpainted = generate_samples(checkpoint, clip, inpaint_region=region)
    inside = slice(round(0.5 * RATE_HZ), round(1.3 * RATE_HZ))
    outside = np.ones(original.shape[1], dtype=bool)
    outside[inside] = False
    assert np.array_equal(inpainted[:, outside], original[:, outside])
    assert np.abs(inpainted[:, inside] - original[:, inside]).mean() > 1e-3

    other_outside = make_noise(duration_s, seed=1)
    other_outside[:, inside] = original[:, inside]
    dependent = generate_samples(
        checkpoint, clip, inpaint_region=replace(region, original=other_outside)
    )
    assert not np.allclose(dependent[:, inside], inpainted[:, inside], atol=1e-4)
    repeated = generate_samples(checkpoint, clip, inpaint_region=region)
    assert np.array_equal(inpainted, repeated)


def test_inpainting_the_whole_clip_equals_generation(checkpoint: Path) -> None:
    """Only the fades at the ends of the region differ."""
    clip = make_pose_features(2.0)
    region = InpaintRegion(original=make_noise(2.0), start_s=0.0, end_s=2.0)
    inpainted = generate_samples(checkpoint, clip, inpaint_region=region)
    generated = generate_samples(checkpoint, clip)
    middle = slice(2000, 42_000)
    np.testing.assert_allclose(
        inpainted[:, middle] * region.training_peak_gain, generated[:, middle], atol=1e-6
    )


@pytest.mark.parametrize("n_channels", [1, 2, 4])
def test_inpaint_option_keeps_earlier_audio_outside_the_range(
    run_soundtrack: RunLoris, video: Path, n_channels: int
) -> None:
    old, new = video.with_name("old.wav"), video.with_name("new.wav")
    earlier = np.resize(make_noise(2.0, scale=0.05), (n_channels, 2 * RATE_HZ))
    soundfile.write(old, earlier.T, RATE_HZ, subtype="FLOAT")

    result = run_soundtrack("-o", new, "--inpaint", old, "--inpaint-range", 0.5, 1.25)

    assert result.exit_code == 0, result.stderr
    samples = soundfile.read(new)[0].T
    expected = earlier if n_channels == 2 else earlier.mean(axis=0, keepdims=True)
    expected = np.broadcast_to(expected, samples.shape)
    for outside in (slice(0, 11_000), slice(27_600, 44_000)):
        np.testing.assert_allclose(samples[:, outside], expected[:, outside], atol=2e-4)
    assert np.abs(samples[:, 13_000:26_000] - expected[:, 13_000:26_000]).mean() > 1e-3


@pytest.mark.parametrize("guidance", sorted(MAX_BF16_ERRORS))
def test_bf16_audio_is_close_to_fp32(checkpoint: Path, guidance: float) -> None:
    """A guidance scale of 20 multiplies the rounding errors; a scale of 1 does not."""
    clip = make_pose_features(2.0, genre="house", visual=np.ones((4, 24)))
    fp32, bf16 = (
        generate_samples(checkpoint, clip, guidance=guidance, sampler="adpm2", dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    error = np.linalg.norm(bf16 - fp32) / np.linalg.norm(fp32)
    assert 0 < error < MAX_BF16_ERRORS[guidance]


@pytest.mark.parametrize(
    ("arguments", "precision"),
    [([], "fp32"), (["--precision", "bf16"], "bf16")],
    ids=["default", "bf16"],
)
def test_json_output_has_the_precision(
    run_soundtrack: RunLoris, video: Path, arguments: list[str], precision: str
) -> None:
    result = run_soundtrack("-o", video.with_name("out.wav"), "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["precision"] == precision


@pytest.mark.slow
def test_compiled_network_generates_the_same_audio(checkpoint: Path) -> None:
    """Only tracing is tested: code generation needs a GPU or minutes."""
    clip = make_pose_features(2.0)
    torch.compiler.reset()
    eager, compiled = (
        generate_samples(checkpoint, clip, steps=2, compiled=is_compiled)
        for is_compiled in (False, True)
    )
    np.testing.assert_allclose(eager, compiled, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "duration_s"), [("adpm2", 2.0), ("dpmpp-2m", 2.0), ("dpmpp-2m", 2.6)]
)
def test_sampling_steps_do_not_synchronize_with_the_device(
    checkpoint: Path, sampler: SamplerName, duration_s: float
) -> None:
    """The meta device has no values, so reading one or copying one to the host fails."""
    meta = torch.device("meta")
    model = load_paper_checkpoint(checkpoint, device=CPU)
    model.network.to(meta)
    n_copies = []
    for steps in (2, 3):
        generator = WaveformGenerator(
            model=model, device=meta, steps=steps, sampler=sampler, guidance=20.0
        )
        counter = HostToDeviceCopyCounter(meta)
        with counter:
            signal = generator._draw(
                make_pose_features(duration_s), seed=0, progress=lambda done, total: None
            )
        assert signal.device == meta
        assert signal.shape == (2, generator.compute_window_layout(duration_s).length)
        n_copies.append(counter.n_copies)
    # A step of an ancestral sampler copies its noise, which the host draws.
    assert n_copies[1] - n_copies[0] == (sampler == "adpm2")
    assert n_copies[0] > 0


@pytest.mark.parametrize(
    ("is_supported", "device", "expected"),
    [(True, "cuda", "bf16"), (False, "cuda", "fp32"), (True, "cpu", "fp32")],
)
def test_auto_precision_is_bf16_only_on_cuda_with_bf16_support(
    monkeypatch: pytest.MonkeyPatch, is_supported: bool, device: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: is_supported)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    assert resolve_dtype("auto", torch.device(device)) == dtypes[expected]
    assert resolve_dtype("bf16", torch.device(device)) == torch.bfloat16
    assert resolve_dtype("fp32", torch.device(device)) == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "device", "is_slow"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, "cpu", True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, "cpu", False),
        ({"architecture": "aarch64"}, "cpu", False),
        ({}, "cpu", False),
        ({"architecture": "x86_64", "avx512_bf16": False}, "cuda", False),
    ],
    ids=["x86-without-bf16", "x86-with-bf16", "arm", "unknown-cpu", "cuda"],
)
def test_bf16_is_slow_only_on_x86_without_bf16_instructions(
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, object],
    device: str,
    is_slow: bool,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert is_bf16_slow(torch.device(device)) == is_slow


def test_missing_compiler_is_a_usage_error(
    run_soundtrack: RunLoris, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = run_soundtrack("--compile")
    assert result.exit_code == 2
    assert "--compile" in result.stderr
    assert "no-such-compiler" in result.stderr
    assert not video.with_name("dance.loris.mp4").exists()
