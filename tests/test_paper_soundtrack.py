"""``loris soundtrack`` with a small checkpoint in the released form, end to end."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import CliResult, RunLoris
from device_copies import HostToDeviceCopyCounter
from tiny_models import TINY_PAPER_CONFIG

from loris_cli.models import i3d_resnet50
from loris_cli.models.diffusion import SamplerName
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
from loris_cli.system.device import bf16_is_slow, resolve_dtype

CPU = torch.device("cpu")
RATE_HZ = 22_050
BF16_OFF = {1.0: 0.02, 20.0: 0.1}
"""By guidance, of the sound's norm; 0.0075 and 0.030 were measured."""
SIZES = replace(
    TINY_PAPER_CONFIG, visual_features=24, n_visual_frames=4, n_pose_frames=32, n_genres=10
)
"""Of clips of 2 s."""


def trained(config: PaperConfig = SIZES) -> PaperModel:
    """A network that is not new: its gains are no longer all one."""
    torch.manual_seed(0)
    network = PaperModel(config)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(".g"):
                value.add_(0.1 * torch.randn_like(value))
    return network


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    path = tmp_path / "loris_dance2_epoch1.pt"
    save_released_format(path, trained())
    return path


@pytest.fixture
def video(tmp_path: Path, moving_video: Path) -> Path:
    path = tmp_path / "dance.mp4"
    path.write_bytes(moving_video.read_bytes())
    return path


@pytest.fixture
def make(loris: RunLoris, released: Path, video: Path, pose_file: Path) -> RunLoris:
    def call(*arguments: object) -> CliResult:
        fixed = ("--model", released, "--poses", pose_file, "--steps", 3)
        return loris("soundtrack", video, *fixed, *arguments)

    return call


def visual(tmp_path: Path, rows: int = 4, width: int = 24) -> Path:
    path = tmp_path / "dance.i3d.npy"
    np.save(path, np.random.default_rng(0).normal(size=(rows, width, 1, 1)).astype(np.float32))
    return path


def test_a_released_checkpoint_makes_a_soundtrack(
    make: RunLoris, video: Path, tmp_path: Path, cache: Path
) -> None:
    result = make("--visual-features", visual(tmp_path), "--json", "--genre", "house")

    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert (row["model"], row["sampler"], row["guidance"]) == (
        "loris_dance2_epoch1.pt",
        "adpm2",
        20.0,
    )
    assert (row["n_windows"], row["n_network_evaluations"], row["warnings"]) == (1, 4, [])
    assert video.with_name("dance.loris.mp4").exists()
    notes = [json.loads(path.read_text()) for path in cache.glob("*.json")]
    assert [note["sha256"][:12] for note in notes] == [row["fingerprint"]]
    assert [path.stem for path in cache.glob("*.safetensors")] == [notes[0]["sha256"]]


def test_the_second_time_it_is_read_from_the_cache_and_sounds_the_same(
    make: RunLoris, tmp_path: Path, released: Path, video: Path
) -> None:
    one, other = video.with_name("one.wav"), video.with_name("other.wav")
    assert make("-o", one).exit_code == 0
    stat = released.stat()
    released.write_bytes(b"PK\x03\x04" + bytes(stat.st_size - 4))  # only its form is looked at
    os.utime(released, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    generators.load_model_cached.cache_clear()
    assert make("-o", other).exit_code == 0
    assert one.read_bytes() == other.read_bytes()


def test_a_file_that_has_become_another_is_told_of(
    tmp_path: Path, released: Path, cache: Path
) -> None:
    assert load_paper_checkpoint(released, device=CPU).warnings == ()
    network = trained()
    with torch.no_grad():
        network.cond_lin.bias.add_(1)
    save_released_format(released, network)

    loaded = load_paper_checkpoint(released, device=CPU)

    assert "another file than when it was first loaded" in loaded.warnings[0]
    assert torch.equal(loaded.network.cond_lin.bias, network.cond_lin.bias)


def test_a_damaged_cache_is_made_anew(released: Path, cache: Path) -> None:
    load_paper_checkpoint(released, device=CPU)
    (region,) = cache.glob("*.safetensors")
    region.write_bytes(region.read_bytes()[:5000])

    load_paper_checkpoint(released, device=CPU)

    weights = load_paper_model(region, device=CPU).cond_lin.weight
    assert torch.equal(weights, trained().cond_lin.weight)


def test_a_cache_that_cannot_be_written_is_done_without(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "file"))
    assert load_paper_checkpoint(released, device=CPU).name == released.name


def test_without_features_of_the_picture_it_says_so(make: RunLoris) -> None:
    result = make()
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "--visual-features" in result.stderr


@pytest.mark.parametrize(
    ("rows", "width", "message"),
    [
        (4, 20, "has rows of 20 values; this model was trained on 24"),
        (1, 24, "has 1 rows, 0.5 s at 2 a second, and the video lasts 2.0 s"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    make: RunLoris, tmp_path: Path, rows: int, width: int, message: str
) -> None:
    result = make("--visual-features", visual(tmp_path, rows, width))
    assert result.exit_code == 4
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--genre", "skate"], "was not trained on the style skate"),
        (["--guidance-interval", 0.8, 0.2], "--guidance-interval 0.8 0.2 is not a part"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    make: RunLoris, arguments: list[object], message: str
) -> None:
    result = make(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rgb.pt", "i3d gives 1024 values"),
        ("i3d-r50", "i3d-r50 gives 2048 values"),
        ("i3d", "'i3d' names no weights"),
    ],
)
def test_an_i3d_for_a_network_of_other_features_is_a_usage_error(
    make: RunLoris, source: str, message: str
) -> None:
    result = make("--visual-features", source)
    assert result.exit_code == 2
    assert message in result.stderr


def test_offline_the_weights_of_i3d_r50_are_asked_for_at_once(
    loris: RunLoris, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    zoo = type("Zoo", (), {"checkpoint_paths": {"i3d_r50": "http://zoo.example/a.pyth"}})
    monkeypatch.setattr(i3d_resnet50, "_import_pytorchvideo_hub", lambda submodule="": zoo)
    wide = tmp_path / "wide.safetensors"
    save_paper_model(wide, trained(replace(SIZES, visual_features=2048)))
    for offline in (["--offline"], []):
        monkeypatch.setenv("HF_HUB_OFFLINE", "0" if offline else "1")
        arguments = ("--model", wide, "--visual-features", "i3d-r50", *offline)
        result = loris("soundtrack", video, *arguments)
        assert result.exit_code == 3
        assert "downloads are disabled" in result.stderr
        place = tmp_path / "cache" / "weights" / "I3D_8x8_R50.pyth"
        assert f"put the file of http://zoo.example/a.pyth at {place}" in result.stderr


@pytest.mark.legacy
def test_i3d_r50_tells_the_network_of_the_picture(
    loris: RunLoris, video: Path, pose_file: Path, tmp_path: Path, resnet_weights: Path
) -> None:
    wide = tmp_path / "wide.safetensors"
    save_paper_model(wide, trained(replace(SIZES, visual_features=2048)))
    fixed = ("--model", wide, "--poses", pose_file, "--steps", 2, "--genre", "house")
    result = loris(
        "soundtrack", video, *fixed, "--visual-features", f"i3d-r50={resnet_weights}", "--json"
    )
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["visual"] == f"i3d-r50={resnet_weights}"
    assert row["warnings"] == []


def test_mini_is_shown_no_features(
    loris: RunLoris, video: Path, small_model: Path, tmp_path: Path
) -> None:
    result = loris(
        "soundtrack", video, "--model", small_model, "--visual-features", visual(tmp_path)
    )
    assert result.exit_code == 2
    assert "takes no visual features" in result.stderr


def test_a_network_nobody_trained_makes_no_soundtrack(make: RunLoris, released: Path) -> None:
    save_released_format(released, PaperModel(SIZES))
    result = make()
    assert result.exit_code == 3
    assert "untrained weights" in result.stderr


def test_the_preset_alone_is_no_model(loris: RunLoris, video: Path) -> None:
    result = loris("soundtrack", video, "--model", "paper")
    assert result.exit_code == 3
    assert "no model 'paper'" in result.stderr
    assert "a released checkpoint" in result.stderr


def features(duration_s: float, **more: object) -> ClipFeatures:
    rng = np.random.default_rng(1)
    n_frames = round(16 * duration_s)
    keypoints = 5 * np.cumsum(rng.normal(size=(n_frames, 17, 3)), axis=0)
    keypoints[..., 2] = 0.9
    result = {
        "duration_s": duration_s,
        "peaks_s": np.arange(0.5, duration_s, 0.5),
        "strengths": np.ones(len(np.arange(0.5, duration_s, 0.5))),
        "energy": np.ones(n_frames),
        "keypoints": keypoints,
    }
    return ClipFeatures(**{**result, **more})  # type: ignore[arg-type]


def generate_samples(
    path: Path, clip: ClipFeatures, seed: int = 0, *, compiled: bool = False, **more: object
) -> np.ndarray:
    model = load_paper_checkpoint(path, device=CPU)
    if compiled:
        model.network.unet.compile(backend="eager")
    options = {"steps": 3, "sampler": "dpmpp-2m", **more}
    generator = WaveformGenerator(model=model, device=CPU, **options)  # type: ignore[arg-type]
    result: list[tuple[int, int]] = []
    blocks = generator.generate(clip, seed=seed, progress=lambda *at: result.append(at))
    samples = np.concatenate(list(blocks), axis=1)
    evaluations = generator.compute_window_layout(clip.duration_s).n_evaluations
    assert result == [(k + 1, evaluations) for k in range(evaluations)]
    return samples


@pytest.mark.parametrize("duration_s", [0.7, 2.0, 2.3, 7.13])
def test_any_length_is_made_whole(released: Path, duration_s: float) -> None:
    samples = generate_samples(released, features(duration_s))
    assert samples.shape == (2, round(duration_s * RATE_HZ))
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1


def test_the_released_end_of_a_clip_is_played_again(released: Path) -> None:
    """The sound of 2 s is 2^15 samples; what is missing repeats the last (D6)."""
    samples = generate_samples(released, features(2.0))
    again = samples.shape[1] - 2**15
    assert again == 44_100 - 32_768
    assert np.array_equal(samples[:, -again:], samples[:, 2**15 - again : 2**15])


def test_in_the_papers_reading_a_clip_is_made_whole(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    save_paper_model(path, trained())
    samples = generate_samples(path, features(2.0))
    again = 44_100 - 32_768
    assert not np.array_equal(samples[:, -again:], samples[:, 2**15 - again : 2**15])


@pytest.mark.parametrize("sampler", ["adpm2", "euler-ancestral", "dpmpp-2m-sde"])
def test_a_seed_fixes_the_sound(released: Path, sampler: str) -> None:
    one, again, other = (
        generate_samples(released, features(2.0), seed, sampler=sampler) for seed in (4, 4, 5)
    )
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)


def test_what_is_seen_and_asked_for_changes_the_sound(released: Path) -> None:
    plain = features(2.0, genre="house", visual=np.ones((4, 24)))
    one = generate_samples(released, plain)
    changes = {
        "genre": "krump",
        "visual": np.linspace(-1, 1, 96).reshape(4, 24),
        "keypoints": np.flip(features(2.0).keypoints, axis=0),  # type: ignore[type-var]
    }
    for name, value in changes.items():
        other = generate_samples(
            released,
            features(2.0, **{"genre": "house", "visual": np.ones((4, 24)), name: value}),
        )
        assert not np.allclose(one, other, atol=1e-6), name


def test_guidance_in_the_middle_only_is_between_none_and_all(released: Path) -> None:
    clip = features(2.0)
    none = generate_samples(released, clip, guidance=1.0, steps=6)
    every = generate_samples(released, clip, steps=6)
    middle = generate_samples(released, clip, guidance_interval=(0.3, 0.7), steps=6)
    nowhere = generate_samples(
        released, clip, guidance_interval=(0.0, 1e-9), steps=6, guidance=1.0
    )
    assert not np.allclose(middle, every, atol=1e-6)
    assert not np.allclose(middle, none, atol=1e-6)
    assert np.array_equal(none, nowhere)


def test_the_file_is_stereo_at_the_projects_rate(make: RunLoris, video: Path) -> None:
    assert make("-o", video.with_name("out.wav")).exit_code == 0
    samples, rate_hz = soundfile.read(video.with_name("out.wav"))
    assert rate_hz == RATE_HZ
    assert samples.shape[1] == 2


def noise_for(duration_s: float, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    size = (2, round(duration_s * RATE_HZ))
    drawn = np.random.default_rng(seed).normal(0, scale, size).astype(np.float32)
    return np.clip(drawn, -2 * scale, 2 * scale)  # all with one peak


@pytest.mark.parametrize("duration_s", [2.0, 7.13])
def test_what_is_kept_stays_to_the_sample_and_leads_the_rest(
    released: Path, duration_s: float
) -> None:
    clip, old = features(duration_s), noise_for(duration_s)
    region = InpaintRegion(original=old, start_s=0.5, end_s=1.3)
    found = generate_samples(released, clip, inpaint_region=region)
    inside = slice(round(0.5 * RATE_HZ), round(1.3 * RATE_HZ))
    outside = np.ones(old.shape[1], dtype=bool)
    outside[inside] = False
    assert np.array_equal(found[:, outside], old[:, outside])
    assert np.abs(found[:, inside] - old[:, inside]).mean() > 1e-3

    other = noise_for(duration_s, seed=1)
    other[:, inside] = old[:, inside]
    led = generate_samples(
        released, clip, inpaint_region=InpaintRegion(original=other, start_s=0.5, end_s=1.3)
    )
    assert not np.allclose(led[:, inside], found[:, inside], atol=1e-4)
    again = generate_samples(released, clip, inpaint_region=region)
    assert np.array_equal(found, again)


def test_keeping_nothing_is_making_all(released: Path) -> None:
    """An inpaint region as long as the clip: only the fades at its ends differ."""
    clip = features(2.0)
    region = InpaintRegion(original=noise_for(2.0), start_s=0.0, end_s=2.0)
    found, plain = (
        generate_samples(released, clip, inpaint_region=region),
        generate_samples(released, clip),
    )
    middle = slice(2000, 42_000)
    np.testing.assert_allclose(
        found[:, middle] * region.training_peak_gain, plain[:, middle], atol=1e-6
    )


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_an_earlier_result_is_kept_around_a_stretch(
    make: RunLoris, video: Path, channels: int
) -> None:
    old, new = video.with_name("old.wav"), video.with_name("new.wav")
    before = np.resize(noise_for(2.0, scale=0.05), (channels, 2 * RATE_HZ))
    soundfile.write(old, before.T, RATE_HZ, subtype="FLOAT")

    result = make("-o", new, "--inpaint", old, "--inpaint-range", 0.5, 1.25)

    assert result.exit_code == 0, result.stderr
    samples = soundfile.read(new)[0].T
    expected = before if channels == 2 else before.mean(axis=0, keepdims=True).repeat(2, axis=0)
    for part in (slice(0, 11_000), slice(27_600, 44_000)):
        np.testing.assert_allclose(samples[:, part], expected[:, part], atol=2e-4)
    assert np.abs(samples[:, 13_000:26_000] - expected[:, 13_000:26_000]).mean() > 1e-3


def test_in_bf16_the_sound_is_nearly_that_of_fp32(released: Path) -> None:
    """Guidance of 20 multiplies what is rounded off; a guidance of 1 shows the rounding."""
    clip = features(2.0, genre="house", visual=np.ones((4, 24)))
    for guidance, most in BF16_OFF.items():
        exact = generate_samples(released, clip, guidance=guidance, sampler="adpm2")
        rough = generate_samples(
            released, clip, guidance=guidance, sampler="adpm2", dtype=torch.bfloat16
        )
        off = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
        assert 0 < off < most, guidance


def test_the_sound_says_what_it_was_computed_in(make: RunLoris, video: Path) -> None:
    out = video.with_name("out.wav")
    for arguments, precision in (((), "fp32"), (("--precision", "bf16"), "bf16")):
        result = make("-o", out, "--json", "--overwrite", *arguments)
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["precision"] == precision


def test_compiled_it_sounds_the_same(released: Path) -> None:
    """Traced, and run by torch's own kernels: what makes code of it needs a GPU or patience."""
    clip = features(7.13)
    torch.compiler.reset()
    one, other = (generate_samples(released, clip, compiled=c) for c in (False, True))
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "duration_s"), [("adpm2", 2.0), ("dpmpp-2m", 2.0), ("dpmpp-2m", 3.6)]
)
def test_no_step_waits_for_the_device(
    released: Path, sampler: SamplerName, duration_s: float
) -> None:
    """The meta device has no values: whatever would read one, or bring it back, fails."""
    meta = torch.device("meta")
    model = load_paper_checkpoint(released, device=CPU)
    model.network.to(meta)
    sent = []
    for steps in (2, 3):
        generator = WaveformGenerator(
            model=model, device=meta, steps=steps, sampler=sampler, guidance=20.0
        )
        counted = HostToDeviceCopyCounter(meta)
        with counted:
            found = generator._draw(
                features(duration_s), seed=0, progress=lambda done, total: None
            )
        assert found.device == meta
        assert found.shape == (2, generator.compute_window_layout(duration_s).length)
        sent.append(counted.n_copies)
    # Of a step, nothing but the noise that the host draws for it is sent.
    assert sent[1] - sent[0] == (sampler == "adpm2")
    assert sent[0] > 0


@pytest.mark.parametrize(
    ("supported", "device", "expected"),
    [(True, "cuda", "bf16"), (False, "cuda", "fp32"), (True, "cpu", "fp32")],
)
def test_by_itself_it_takes_bf16_only_where_cuda_has_it(
    monkeypatch: pytest.MonkeyPatch, supported: bool, device: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **more: supported)
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    assert resolve_dtype("auto", torch.device(device)) == types[expected]
    assert resolve_dtype("bf16", torch.device(device)) == torch.bfloat16
    assert resolve_dtype("fp32", torch.device(device)) == torch.float32


@pytest.mark.parametrize(
    ("result", "device", "cost"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, "cpu", True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, "cpu", False),
        ({"architecture": "aarch64"}, "cpu", False),
        ({}, "cpu", False),
        ({"architecture": "x86_64", "avx512_bf16": False}, "cuda", False),
    ],
)
def test_a_processor_without_bfloat16_is_known_to_be_slow_in_it(
    monkeypatch: pytest.MonkeyPatch, result: dict[str, object], device: str, cost: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: result, raising=False)
    assert bf16_is_slow(torch.device(device)) == cost


def test_what_cannot_compile_is_told_before_the_work(
    make: RunLoris, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = make("--compile")
    assert result.exit_code == 2
    assert "--compile needs no-such-compiler" in result.stderr
