"""Networks of the mini preset at a small size, and their checkpoints."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import TINY_AUTOENCODER, TINY_DENOISER, TINY_NOTES_AUTOENCODER

from loris_cli.audio.mel import FINE_MEL_CONFIG
from loris_cli.errors import WeightsError
from loris_cli.models.condition_routes import ROUTES
from loris_cli.models.hawkes import MiniHawkesEncoding, MiniRhythmEncoder
from loris_cli.models.int8_weights import dequantize_int8, quantize_int8
from loris_cli.models.mel_autoencoder import (
    FramesToPatches,
    MelAutoencoder,
    MelAutoencoderConfig,
    PatchesToFrames,
)
from loris_cli.models.mini_checkpoint import (
    decode_latents,
    load_mini_checkpoint,
    save_mini_checkpoint,
)
from loris_cli.models.mini_config import BUILTIN_MODELS
from loris_cli.models.mini_unet import MiniCondition, MiniDenoiser
from loris_cli.models.stgcn import (
    MINI_CENTER_JOINTS,
    MINI_SKELETON_EDGES,
    build_adjacency,
)
from loris_cli.models.time_attention import TokenAlignment

FULL_DENOISER = replace(
    TINY_DENOISER,
    harmony_channels=32,
    motion_width=8,
    note_latent_channels=32,
)
# The mel bands and latent channels of the note latents of FULL_DENOISER.
FINE_AUTOENCODER = replace(
    TINY_AUTOENCODER, n_mels=FINE_MEL_CONFIG.n_mels, n_fft=FINE_MEL_CONFIG.n_fft
)
CPU = torch.device("cpu")
KEEP, DROP = torch.tensor([False]), torch.tensor([True])


def make_condition(batch: int, frames: int = 32, tokens: int = 24) -> MiniCondition:
    generator = torch.Generator().manual_seed(5)
    return MiniCondition(
        aligned_rhythm=torch.rand(batch, 20, frames, generator=generator),
        peaks=(torch.rand(batch, tokens, generator=generator) > 0.8).float(),
        time_since_peak_s=torch.rand(batch, tokens, generator=generator),
        genre=torch.eye(12)[:batch],
        aligned_harmony=torch.rand(batch, 32, frames, generator=generator),
        pose=torch.rand(batch, tokens, 17, 3, generator=generator),
        production=torch.rand(batch, 15, generator=generator),
        note_latent=torch.randn(batch, 32, frames, generator=generator),
        known_routes=torch.ones(batch, len(ROUTES)),
    )


def make_denoiser() -> MiniDenoiser:
    torch.manual_seed(0)
    return MiniDenoiser(FULL_DENOISER)


def set_known(condition: MiniCondition, *routes: str) -> MiniCondition:
    """Return the condition with only the given routes known."""
    known = torch.tensor([[float(name in routes) for name in ROUTES]])
    return condition._replace(known_routes=known.expand(len(condition.peaks), -1))


def test_gradients_reach_all_parameters_of_the_denoiser() -> None:
    network = make_denoiser()
    condition = make_condition(2)
    condition = condition._replace(known_routes=torch.stack([torch.ones(4), torch.zeros(4)]))
    drop_mask = torch.tensor([False, False])
    out = network(torch.randn(2, 32, 32), torch.zeros(2), condition, drop_mask)
    dropped = network(torch.randn(2, 32, 32), torch.zeros(2), condition, ~drop_mask)
    (out.square().sum() + dropped.square().sum()).backward()
    without_gradient = [name for name, p in network.named_parameters() if p.grad is None]
    assert without_gradient == []


@pytest.mark.parametrize(
    ("route", "field"),
    [
        ("rhythm_tokens", "peaks"),
        ("aligned_rhythm", "aligned_rhythm"),
        ("harmony", "aligned_harmony"),
        ("notes", "note_latent"),
    ],
)
def test_an_unknown_route_has_no_effect(route: str, field: str) -> None:
    network = make_denoiser().eval()
    condition = make_condition(1)
    changed = condition._replace(**{field: 1 - getattr(condition, field)})
    others = [name for name in ROUTES if name != route]
    x, c_noise = torch.randn(1, 32, 32), torch.zeros(1)

    def evaluate(*conditions: MiniCondition) -> list[torch.Tensor]:
        with torch.no_grad():
            return [network(x, c_noise, given, KEEP) for given in conditions]

    unknown = evaluate(set_known(condition, *others), set_known(changed, *others))
    known = evaluate(set_known(condition, *ROUTES), set_known(changed, *ROUTES))
    torch.testing.assert_close(unknown[0], unknown[1], rtol=0, atol=0)
    assert not torch.allclose(known[0], known[1])


def test_attention_by_time_begins_at_the_tokens_of_a_frame() -> None:
    torch.manual_seed(0)
    alignment = TokenAlignment(32, 4, heads=2, frame_rate_hz=21.5, token_rate_hz=16.0)
    tokens = torch.randn(1, 48, 32)
    before = alignment(tokens, 64)
    tokens[:, 24] += 10.0  # from 1.5 s
    change = (alignment(tokens, 64) - before).abs().sum(dim=1)[0]
    assert int(change.argmax()) == pytest.approx(1.53 * 21.5, abs=2)
    assert change.max() > 3 * change.median()


def test_denoiser_ignores_a_dropped_condition() -> None:
    network = make_denoiser().eval()
    x, c_noise, condition = torch.randn(1, 32, 32), torch.zeros(1), make_condition(1)
    changed = condition._replace(
        aligned_rhythm=1 - condition.aligned_rhythm, peaks=1 - condition.peaks
    )

    with torch.no_grad():
        dropped = network(x, c_noise, condition, DROP)
        changed_dropped = network(x, c_noise, changed, DROP)
        retained = network(x, c_noise, condition, KEEP)
        changed_retained = network(x, c_noise, changed, KEEP)

    torch.testing.assert_close(dropped, changed_dropped)
    assert not torch.allclose(retained, changed_retained)
    assert not torch.allclose(dropped, retained)


@pytest.mark.parametrize("n_frames", [64, 72, 120])
def test_denoiser_keeps_the_length_of_multiples_of_its_stride(n_frames: int) -> None:
    x = torch.randn(1, 32, n_frames)
    denoised = make_denoiser()(x, torch.zeros(1), make_condition(1, n_frames), KEEP)
    assert denoised.shape == x.shape
    assert denoised.isfinite().all()


def test_hawkes_encoding_equals_equation_9() -> None:
    encoding = MiniHawkesEncoding(8)
    with torch.no_grad():
        encoding.Wt.weight.fill_(1.0)

    unshifted = encoding(torch.zeros(1, 3))[0]
    shifted = encoding(torch.full((1, 3), 0.5))[0]

    frequencies = 10_000 ** -(torch.arange(0, 8, 2) / 8)
    expected = torch.arange(3)[:, None] * frequencies  # Eq. 9: trig(w_k n + W t(n))
    torch.testing.assert_close(unshifted, torch.cat([expected.sin(), expected.cos()], 1))
    expected = expected + 0.5
    torch.testing.assert_close(shifted, torch.cat([expected.sin(), expected.cos()], 1))


def test_rhythm_tokens_differ_between_peaks_and_no_peaks() -> None:
    torch.manual_seed(0)
    encoder = MiniRhythmEncoder(16, heads=2, head_features=8)
    interval = torch.zeros(1, 6)

    tokens = encoder(torch.tensor([[0, 0, 1, 0, 0, 0]]), interval)[0]
    tokens_without_peak = encoder(torch.zeros(1, 6), interval)[0]

    assert (tokens[2] - tokens_without_peak[2]).abs().max() > 0.1


def test_latent_has_a_quarter_of_the_frames() -> None:
    torch.manual_seed(0)
    autoencoder = MelAutoencoder(TINY_AUTOENCODER)
    frames = torch.randn(1, 128, 48)

    latent = autoencoder.encode(frames)

    assert latent.shape == (1, 32, 12)
    assert autoencoder.decode(latent).shape == (1, 513, 48)


@pytest.mark.parametrize("config", [TINY_AUTOENCODER, TINY_NOTES_AUTOENCODER])
def test_decoded_latents_are_audio_of_their_frames(config: MelAutoencoderConfig) -> None:
    torch.manual_seed(0)
    autoencoder = MelAutoencoder(config).eval()
    latents = torch.randn(config.latent_channels, 20)
    samples = decode_latents(autoencoder, latents)
    assert samples.shape == ((4 * 20 - 1) * 256,)
    assert samples.any()
    assert decode_latents(autoencoder, latents).tobytes() == samples.tobytes()


def test_gradient_of_a_decoded_frame_stays_within_the_margin() -> None:
    torch.manual_seed(0)
    autoencoder = MelAutoencoder(TINY_AUTOENCODER).eval()
    latent = torch.randn(1, 32, 80, requires_grad=True)

    autoencoder.decode(latent)[0, :, 40 * 4 : 41 * 4].sum().backward()  # type: ignore[no-untyped-call]

    assert latent.grad is not None
    used = torch.nonzero(latent.grad[0].abs().sum(0)).ravel()
    assert used.min() >= 40 - autoencoder.receptive_margin_frames
    assert used.max() <= 40 + autoencoder.receptive_margin_frames


def test_training_reduces_the_error_of_the_autoencoder() -> None:
    torch.manual_seed(0)
    autoencoder = MelAutoencoder(TINY_AUTOENCODER)
    frames = torch.randn(4, 128, 16)
    optimizer = torch.optim.Adam(autoencoder.parameters(), 3e-3)
    target = frames[:, :1].expand(-1, 513, -1)
    errors = []
    for _ in range(20):
        error = (autoencoder.decode(autoencoder.encode(frames)) - target).abs().mean()
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        errors.append(float(error.detach()))

    assert errors[-1] < 0.9 * errors[0]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    save_mini_checkpoint(path, MelAutoencoder(FINE_AUTOENCODER), make_denoiser())
    return path


def test_checkpoint_stores_parameters_in_8_bits(weights: Path) -> None:
    loaded = load_mini_checkpoint(str(weights), device=CPU).denoiser

    denoiser = make_denoiser()
    expected = denoiser.state_dict() | dequantize_int8(
        quantize_int8({name: value.detach() for name, value in denoiser.named_parameters()})
    )
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in expected.items())
    n_parameters = sum(
        p.numel()
        for item in (loaded, MelAutoencoder(FINE_AUTOENCODER))
        for p in item.parameters()
    )
    assert weights.stat().st_size < 2 * n_parameters


def test_bundled_model_has_at_most_45_mb() -> None:
    model = load_mini_checkpoint("mini", device=CPU)
    n_parameters = sum(
        p.numel() for item in (model.autoencoder, model.denoiser) for p in item.parameters()
    )
    assert n_parameters < BUILTIN_MODELS["mini"].stat().st_size < 45_000_000


def rewrite_checkpoint(
    path: Path,
    *,
    tensors: dict[str, torch.Tensor] | None = None,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Replace the tensors or some metadata of a checkpoint."""
    with safe_open(path, framework="pt") as file:
        old_metadata = file.metadata()
    save_file(tensors or load_file(path), path, {**old_metadata, **metadata})
    return str(path)


def test_pickle_with_safetensors_suffix_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(2)}, path)

    with pytest.raises(WeightsError, match=r"model\.safetensors") as caught:
        load_mini_checkpoint(str(path), device=CPU)

    assert "pickle" in caught.value.hint
    assert caught.value.exit_code == 3


def test_header_of_invalid_length_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")

    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_mini_checkpoint(str(path), device=CPU)


@pytest.mark.parametrize(
    "config",
    [
        {"width": 10**9},
        {"width": -4},
        {"width": "wide"},
        {"depth": 3},
        {"width": 0},
        {"fine_width": -4},
    ],
    ids=["huge", "negative", "text", "unknown-field", "zero", "fine"],
)
def test_invalid_network_config_is_rejected(weights: Path, config: dict[str, object]) -> None:
    path = rewrite_checkpoint(weights, metadata={"loris.coder": json.dumps(config)})
    with pytest.raises(WeightsError, match=weights.name) as caught:
        load_mini_checkpoint(path, device=CPU)
    assert type(caught.value.__cause__) is ValueError  # before a network is built


@pytest.mark.parametrize(
    "autoencoder",
    [TINY_AUTOENCODER, replace(FINE_AUTOENCODER, latent_channels=16)],
    ids=["mel-bands", "latent-channels"],
)
def test_note_latent_of_another_autoencoder_is_rejected(
    tmp_path: Path, autoencoder: MelAutoencoderConfig
) -> None:
    path = tmp_path / "odd.safetensors"
    save_mini_checkpoint(path, MelAutoencoder(autoencoder), make_denoiser())
    with pytest.raises(WeightsError, match=path.name) as caught:
        load_mini_checkpoint(str(path), device=CPU)
    assert "note_latent_channels" in str(caught.value.__cause__)


def test_checkpoint_of_another_kind_is_rejected(weights: Path) -> None:
    path = rewrite_checkpoint(weights, metadata={"loris.kind": "poem"})
    with pytest.raises(WeightsError, match=rf"{weights.name}.*\bmini\b"):
        load_mini_checkpoint(path, device=CPU)


def test_missing_tensor_is_named(weights: Path) -> None:
    tensors = load_file(weights)
    tensors.pop("coder.code_std")
    with pytest.raises(WeightsError, match=r"coder\.code_std"):
        load_mini_checkpoint(rewrite_checkpoint(weights, tensors=tensors), device=CPU)


def test_tensor_with_nan_is_named(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["coder.code_std"][0] = float("nan")
    with pytest.raises(WeightsError, match=r"coder\.code_std.*NaN"):
        load_mini_checkpoint(rewrite_checkpoint(weights, tensors=tensors), device=CPU)


def test_unknown_model_name_lists_the_bundled_models() -> None:
    with pytest.raises(WeightsError, match="'maxi'") as caught:
        load_mini_checkpoint("maxi", device=CPU)

    assert "mini" in caught.value.hint


def test_skeleton_graph_has_each_edge_in_one_partition() -> None:
    adjacency = build_adjacency(MINI_SKELETON_EDGES, MINI_CENTER_JOINTS)

    rows = adjacency.sum(dim=2)
    assert torch.equal(adjacency[0], torch.eye(17))
    assert ((rows[1:] - 1).abs().lt(1e-6) | (rows[1:] == 0)).all()
    neighbours = (adjacency[1] > 0) | (adjacency[2] > 0)
    assert torch.equal(neighbours, neighbours.T)
    assert not (adjacency[1].bool() & adjacency[2].bool()).any()
    assert neighbours[9].nonzero().ravel().tolist() == [
        7
    ]  # the wrist is joined to the elbow only


def test_poses_condition_the_denoiser_and_no_pose_uses_the_null() -> None:
    network = make_denoiser().eval()
    x, c_noise, condition = torch.randn(1, 32, 32), torch.zeros(1), make_condition(1)
    reversed_poses = condition._replace(pose=condition.pose.flip(1))
    no_poses = condition._replace(pose=torch.zeros_like(condition.pose))
    conditions = (condition, reversed_poses, no_poses)

    with torch.no_grad():
        before = [network(x, c_noise, c, KEEP) for c in conditions]
        network.no_motion.copy_(torch.arange(16.0))
        after = [network(x, c_noise, c, KEEP) for c in conditions]

    assert not torch.allclose(before[0], before[1])
    assert not torch.allclose(before[2], after[2])
    torch.testing.assert_close(before[:2], after[:2])


def test_unfolding_patches_inverts_folding() -> None:
    frames = torch.randn(2, 3, 20)
    folded = FramesToPatches()(frames)
    assert folded.shape == (2, 12, 5)
    assert torch.equal(PatchesToFrames()(folded), frames)
    assert torch.equal(folded[0, :4, 2], frames[0, 0, 8:12])


@pytest.mark.parametrize(
    "config",
    [
        TINY_AUTOENCODER,
        replace(TINY_AUTOENCODER, latent_channels=8, n_blocks=2),
        TINY_NOTES_AUTOENCODER,
    ],
    ids=["1-block", "2-blocks", "fine"],
)
def test_changed_latent_frame_changes_frames_up_to_the_margin(
    config: MelAutoencoderConfig,
) -> None:
    torch.manual_seed(0)
    autoencoder = MelAutoencoder(config).eval()
    latent = torch.randn(1, config.latent_channels, 80)
    changed = latent.clone()
    changed[..., 40] += 1

    with torch.no_grad():
        difference = (
            (autoencoder.decode(changed) - autoencoder.decode(latent)).abs().amax(dim=1)[0]
        )
    frames = difference.nonzero().ravel() / 4
    assert frames.min() >= 40 - autoencoder.receptive_margin_frames
    assert frames.max() < 41 + autoencoder.receptive_margin_frames
    assert frames.min() <= 40 - autoencoder.receptive_margin_frames + 4  # the bound is tight


@pytest.mark.slow
def test_loading_mini_does_not_import_the_compiler_of_torch() -> None:
    code = (
        "import sys, torch; from loris_cli.models.mini_checkpoint import load_mini_checkpoint;"
        " load_mini_checkpoint('mini', device=torch.device('cpu'));"
        " print({'sympy', 'torch._dynamo'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
