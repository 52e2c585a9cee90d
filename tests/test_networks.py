"""The networks at a small size: every part works and learns, and files are what they claim."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TINY_AUTOENCODER, TINY_DENOISER

from loris_cli.audio.mel import FINE_MEL_CONFIG
from loris_cli.errors import WeightsError
from loris_cli.models.hawkes import MiniHawkesEncoding, MiniRhythmEncoder
from loris_cli.models.mel_autoencoder import (
    FramesToPatches,
    MelAutoencoder,
    MelAutoencoderConfig,
    PatchesToFrames,
)
from loris_cli.models.mini_checkpoint import (
    MiniCheckpoint,
    load_mini_checkpoint,
    save_mini_checkpoint,
)
from loris_cli.models.mini_unet import MiniCondition, MiniDenoiser
from loris_cli.models.stgcn import (
    MINI_CENTER_JOINTS,
    MINI_SKELETON_EDGES,
    build_adjacency,
)

FULL_DENOISER = replace(
    TINY_DENOISER,
    harmony_channels=32,
    motion_width=8,
    note_latent_channels=32,
    timing_jitter_channels=1,
)
FINE_CODER = replace(
    TINY_AUTOENCODER, n_mels=FINE_MEL_CONFIG.n_mels, n_fft=FINE_MEL_CONFIG.n_fft
)
CPU = torch.device("cpu")


def make_condition(batch: int, frames: int = 32, tokens: int = 24) -> MiniCondition:
    generator = torch.Generator().manual_seed(5)
    return MiniCondition(
        aligned_rhythm=torch.rand(batch, 20, frames, generator=generator),
        peaks=(torch.rand(batch, tokens, generator=generator) > 0.8).float(),
        time_since_peak_s=torch.rand(batch, tokens, generator=generator),
        genre=torch.eye(12)[:batch],
        aligned_harmony=torch.rand(batch, 32, frames, generator=generator),
        pose=torch.rand(batch, tokens, 17, 3, generator=generator),
        timing_jitter=torch.rand(batch, 1, generator=generator),
        note_latent=torch.randn(batch, 32, frames, generator=generator),
    )


def small_denoiser() -> MiniDenoiser:
    torch.manual_seed(0)
    return MiniDenoiser(FULL_DENOISER)


def test_gradient_reaches_every_parameter_of_the_denoiser() -> None:
    network = small_denoiser()
    dropped = torch.tensor([False, True])

    out = network(torch.randn(2, 32, 32), torch.zeros(2), make_condition(2), dropped)
    out.square().sum().backward()

    idle = [name for name, p in network.named_parameters() if p.grad is None]
    assert idle == []


def test_a_dropped_condition_is_not_heard() -> None:
    network = small_denoiser().eval()
    x, noise_level, dropped = torch.randn(1, 32, 32), torch.zeros(1), torch.tensor([True])
    one, other = make_condition(2), make_condition(2)
    other = other._replace(aligned_rhythm=1 - other.aligned_rhythm, peaks=1 - other.peaks)

    with torch.no_grad():
        a = network(x, noise_level, MiniCondition(*(item[:1] for item in one)), dropped)
        b = network(x, noise_level, MiniCondition(*(item[:1] for item in other)), dropped)
        c = network(x, noise_level, MiniCondition(*(item[:1] for item in other)), ~dropped)

    torch.testing.assert_close(a, b)
    assert not torch.allclose(b, c)


def test_the_denoiser_keeps_the_length_of_any_multiple_of_its_stride() -> None:
    network = small_denoiser()
    for frames in (64, 72, 120):
        x = torch.randn(1, 32, frames)
        out = network(x, torch.zeros(1), make_condition(1, frames), torch.tensor([False]))
        assert out.shape == x.shape


def test_hawkes_positions_shift_with_the_interval_alone_where_the_paper_says() -> None:
    position = MiniHawkesEncoding(8)
    with torch.no_grad():
        position.Wt.weight.fill_(1.0)

    at_rest = position(torch.zeros(1, 3))[0]
    shifted = position(torch.full((1, 3), 0.5))[0]

    frequencies = 10_000 ** -(torch.arange(0, 8, 2) / 8)
    expected = torch.arange(3)[:, None] * frequencies  # Eq. 9: trig(w_k n + W t(n))
    torch.testing.assert_close(at_rest, torch.cat([expected.sin(), expected.cos()], 1))
    expected = expected + 0.5
    torch.testing.assert_close(shifted, torch.cat([expected.sin(), expected.cos()], 1))


def test_rhythm_tokens_tell_peaks_from_none() -> None:
    torch.manual_seed(0)
    encoder = MiniRhythmEncoder(16, heads=2, head_features=8)
    interval = torch.zeros(1, 6)

    tokens = encoder(torch.tensor([[0, 0, 1, 0, 0, 0]]), interval)[0]
    without = encoder(torch.zeros(1, 6), interval)[0]

    assert (tokens[2] - without[2]).abs().max() > 0.1


def test_the_code_is_a_quarter_as_long_and_comes_back() -> None:
    torch.manual_seed(0)
    coder = MelAutoencoder(TINY_AUTOENCODER)
    frames = torch.randn(1, 128, 48)

    code = coder.encode(frames)

    assert code.shape == (1, 32, 12)
    assert coder.decode(code).shape == frames.shape


def test_a_decoded_frame_depends_on_no_more_than_the_margin() -> None:
    torch.manual_seed(0)
    coder = MelAutoencoder(TINY_AUTOENCODER).eval()
    code = torch.randn(1, 32, 80, requires_grad=True)

    coder.decode(code)[0, :, 40 * 4 : 41 * 4].sum().backward()  # type: ignore[no-untyped-call]

    assert code.grad is not None
    used = torch.nonzero(code.grad[0].abs().sum(0)).ravel()
    assert used.min() >= 40 - coder.receptive_margin_frames
    assert used.max() <= 40 + coder.receptive_margin_frames


def test_autoencoder_learns() -> None:
    torch.manual_seed(0)
    coder = MelAutoencoder(TINY_AUTOENCODER)
    frames = torch.randn(4, 128, 16)
    optimizer = torch.optim.Adam(coder.parameters(), 3e-3)
    errors = []
    for _ in range(30):
        error = (coder.decode(coder.encode(frames)) - frames).abs().mean()
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        errors.append(float(error.detach()))

    assert errors[-1] < 0.9 * errors[0]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    save_mini_checkpoint(path, MelAutoencoder(FINE_CODER), small_denoiser())
    return path


def test_weights_come_back_as_they_went(weights: Path) -> None:
    model: MiniCheckpoint = load_mini_checkpoint(str(weights), device=CPU)

    torch.manual_seed(0)
    MelAutoencoder(FINE_CODER)
    original = small_denoiser().eval()
    x, dropped = torch.randn(1, 32, 32), torch.tensor([False])
    with torch.no_grad():
        expected = original(x, torch.zeros(1), make_condition(1), dropped)
        found = model.denoiser(x, torch.zeros(1), make_condition(1), dropped)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)  # half precision


def test_the_embedded_model_is_what_its_card_says() -> None:
    model = load_mini_checkpoint("mini", device=CPU)

    n_parameters = sum(
        p.numel() for item in (model.autoencoder, model.denoiser) for p in item.parameters()
    )
    assert n_parameters < 38_000_000


def rewrite_metadata(path: Path, **metadata: str) -> Path:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    save_file(load_file(path), path, {**old, **metadata})
    return path


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(2)}, path)

    with pytest.raises(WeightsError, match="not a safetensors file") as refused:
        load_mini_checkpoint(str(path), device=CPU)

    assert "pickled" in refused.value.hint
    assert refused.value.exit_code == 3


def test_an_absurd_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")

    with pytest.raises(WeightsError):
        load_mini_checkpoint(str(path), device=CPU)


@pytest.mark.parametrize(
    "sizes", [{"width": 10**9}, {"width": -4}, {"width": "wide"}, {"depth": 3}, {"width": 0}]
)
def test_sizes_that_make_no_network_are_refused(
    weights: Path, sizes: dict[str, object]
) -> None:
    with pytest.raises(WeightsError):
        load_mini_checkpoint(
            str(rewrite_metadata(weights, **{"loris.coder": json.dumps(sizes)})), device=CPU
        )


@pytest.mark.parametrize("coder", [TINY_AUTOENCODER, replace(FINE_CODER, latent_channels=16)])
def test_a_sketch_that_its_coder_cannot_read_is_refused(
    tmp_path: Path, coder: MelAutoencoderConfig
) -> None:
    save_mini_checkpoint(tmp_path / "odd.safetensors", MelAutoencoder(coder), small_denoiser())
    with pytest.raises(WeightsError, match="makes no network"):
        load_mini_checkpoint(str(tmp_path / "odd.safetensors"), device=CPU)


def test_another_kind_of_file_is_refused(weights: Path) -> None:
    with pytest.raises(WeightsError, match="not a mini model of loris"):
        load_mini_checkpoint(
            str(rewrite_metadata(weights, **{"loris.kind": "poem"})), device=CPU
        )


def test_a_missing_tensor_is_named(weights: Path) -> None:
    tensors = load_file(weights)
    tensors.pop("coder.code_std")
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, weights, metadata)

    with pytest.raises(WeightsError, match=r"coder\.code_std"):
        load_mini_checkpoint(str(weights), device=CPU)


def test_weights_that_are_not_finite_are_refused(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["coder.code_std"][0] = float("nan")
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, weights, metadata)

    with pytest.raises(WeightsError, match="finite"):
        load_mini_checkpoint(str(weights), device=CPU)


def test_a_model_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(WeightsError) as missing:
        load_mini_checkpoint("maxi", device=CPU)

    assert "mini" in missing.value.hint


def test_the_graph_of_a_body_reaches_every_neighbour_once() -> None:
    parts = build_adjacency(MINI_SKELETON_EDGES, MINI_CENTER_JOINTS)

    rows = parts.sum(dim=2)
    assert torch.equal(parts[0], torch.eye(17))
    assert ((rows[1:] - 1).abs().lt(1e-6) | (rows[1:] == 0)).all()
    neighbours = (parts[1] > 0) | (parts[2] > 0)
    assert torch.equal(neighbours, neighbours.T)
    assert not (parts[1].bool() & parts[2].bool()).any()
    assert neighbours[9].nonzero().ravel().tolist() == [7]  # a wrist hangs on its elbow


def test_motion_is_heard_where_there_is_a_body_and_the_null_where_there_is_none() -> None:
    network = small_denoiser().eval()
    x, noise_level, keep = torch.randn(1, 32, 32), torch.zeros(1), torch.tensor([False])
    one = MiniCondition(*(item[:1] for item in make_condition(2)))
    other = one._replace(pose=one.pose.flip(1))
    none = one._replace(pose=torch.zeros_like(one.pose))

    with torch.no_grad():
        a, b, c = (network(x, noise_level, condition, keep) for condition in (one, other, none))
        network.no_motion.copy_(torch.arange(16.0))
        d = network(x, noise_level, none, keep)

    assert not torch.allclose(a, b)
    assert not torch.allclose(c, d)


def test_patches_fold_and_unfold() -> None:
    frames = torch.randn(2, 3, 20)
    folded = FramesToPatches()(frames)
    assert folded.shape == (2, 12, 5)
    assert torch.equal(PatchesToFrames()(folded), frames)
    assert torch.equal(folded[0, :4, 2], frames[0, 0, 8:12])


@pytest.mark.parametrize(
    "config",
    [TINY_AUTOENCODER, MelAutoencoderConfig(width=16, latent_channels=8, n_blocks=2)],
)
def test_a_frame_depends_on_no_more_code_than_the_margin(config: MelAutoencoderConfig) -> None:
    torch.manual_seed(0)
    coder = MelAutoencoder(config).eval()
    code = torch.randn(1, config.latent_channels, 80)
    changed = code.clone()
    changed[..., 40] += 1

    with torch.no_grad():
        difference = (coder.decode(changed) - coder.decode(code)).abs().amax(dim=1)[0]
    frames = difference.nonzero().ravel() / 4
    assert frames.min() >= 40 - coder.receptive_margin_frames
    assert frames.max() < 41 + coder.receptive_margin_frames
    assert (
        frames.min() <= 40 - coder.receptive_margin_frames + 4
    )  # and the margin is not much larger
