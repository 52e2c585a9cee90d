"""Network of CMT: size, attention, loss, and learning of a piece."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from test_cmt_words import make_training_clip
from tiny_models import TINY_CMT
from torch import Tensor

from loris_cli.baselines.cmt.attention import AttentionKind, CausalAttention, attend_linear
from loris_cli.baselines.cmt.method import CMT
from loris_cli.baselines.cmt.network import (
    FULL_CONFIG,
    CmtConfig,
    CmtNetwork,
    encode_ticks,
)
from loris_cli.baselines.cmt.words import N_TIMES, VOCABULARY_SIZES, Column
from loris_cli.baselines.learned_method import Example
from loris_cli.models.checkpoint_format import read_config
from loris_cli.models.empty_networks import empty_networks

KINDS: tuple[AttentionKind, ...] = ("softmax", "linear")


def count_parameters(config: CmtConfig) -> int:
    with empty_networks():
        network = CmtNetwork(config)
    return sum(parameter.numel() for parameter in network.parameters())


def make_batch(config: CmtConfig = TINY_CMT, *, size: int = 2) -> Example:
    """Batch of crops of a composed piece."""
    prepared = CMT.prepare_clip(make_training_clip(), config, None)
    rng = np.random.default_rng(0)
    examples = [CMT.draw_example(prepared, config, rng) for _ in range(size)]
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}


def make_network(**changes: Any) -> CmtNetwork:
    torch.manual_seed(0)
    return CmtNetwork(replace(TINY_CMT, **changes))


def test_full_network_has_the_size_of_the_released_one() -> None:
    # 39.0 M in the publication; the genres of ours are 13 instead of 7.
    assert count_parameters(replace(FULL_CONFIG, compat="official")) == 39_006_324
    assert count_parameters(FULL_CONFIG) == 39_006_324 + 6 * 64


def test_compact_network_has_five_million_parameters() -> None:
    assert count_parameters(CmtConfig()) == 5_311_988


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_all_parameters_of_cmt(kind: AttentionKind) -> None:
    network = make_network(attention=kind)
    CMT.build_loss(network, None)(make_batch()).backward()
    without_gradient = [
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    # A softmax is invariant to a constant added to all scores of a query.
    invariant = [name for name in without_gradient if name.endswith("to_key.bias")]
    assert without_gradient == (invariant if kind == "softmax" else [])


@pytest.mark.parametrize("kind", KINDS)
def test_attention_in_parts_equals_attention_at_once(kind: AttentionKind) -> None:
    torch.manual_seed(0)
    attention = CausalAttention(16, 2, kind).double()
    x = torch.randn(1, 200, 16, dtype=torch.float64)
    at_once, last_state = attention(x)

    for sizes in ([150, 1, 49], [199, 1], [1] * 200):
        outputs, state = [], None
        for part in torch.split(x, sizes, dim=1):
            out, state = attention(part, state)
            outputs.append(out)
        torch.testing.assert_close(torch.cat(outputs, dim=1), at_once)
        assert state is not None
        torch.testing.assert_close(state.first, last_state.first)
        torch.testing.assert_close(state.second, last_state.second)


def test_linear_attention_equals_its_definition() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 200, 8, dtype=torch.float64)
    out, _ = attend_linear(query, key, value, None)

    # Katharopoulos et al. (2020), Eqs. 4 and 8: similarity phi(q) phi(k), phi(x) = elu(x) + 1
    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    for position in (0, 1, 127, 128, 199):
        weights = (phi(query[:, :, position, None]) * phi(key[:, :, : position + 1])).sum(-1)
        expected = (weights[..., None] * value[:, :, : position + 1]).sum(2)
        expected = expected / (weights.sum(-1, keepdim=True) + 1e-6)
        torch.testing.assert_close(out[:, :, position], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_do_not_depend_on_later_words(kind: AttentionKind) -> None:
    network, batch = make_network(attention=kind).eval(), make_batch(size=1)
    types = batch["targets"][..., Column.TYPE]
    words = batch["words"].clone()
    words[:, 40:] = batch["words"][:, :1]

    with torch.no_grad():
        before = network(batch["initial"], batch["words"], types)
        after = network(batch["initial"], words, types)

    for column in range(len(VOCABULARY_SIZES)):
        torch.testing.assert_close(before[column][:, :40], after[column][:, :40])
        assert not torch.allclose(before[column][:, 40:], after[column][:, 40:])


def test_other_attributes_are_predicted_from_the_type() -> None:
    network = make_network().eval()
    hidden = torch.randn(1, 32)
    meter, note = (network.predict_attributes(hidden, torch.tensor([kind])) for kind in (1, 2))
    for column in range(len(VOCABULARY_SIZES)):
        assert torch.equal(meter[column], note[column]) == (column == Column.TYPE)
    torch.testing.assert_close(meter[Column.TYPE], network.predict_type(hidden))


def test_encoding_of_ticks_has_alternating_sines_and_cosines() -> None:
    encoded = encode_ticks(torch.tensor([0, 7]), 4)
    expected = [np.sin(7), np.cos(7), np.sin(0.07), np.cos(0.07)]
    torch.testing.assert_close(encoded[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(encoded[1], torch.tensor(expected, dtype=torch.float32))


def test_loss_of_equal_logits_is_the_mean_entropy() -> None:
    network = make_network()
    with torch.no_grad():
        for head in network.heads:
            for parameter in head.parameters():
                parameter.zero_()
    loss = CMT.build_loss(network, None)(make_batch())
    torch.testing.assert_close(loss, torch.tensor(np.log(VOCABULARY_SIZES).mean()).float())


def test_masked_words_do_not_change_the_loss() -> None:
    network, batch = make_network().eval(), make_batch()
    batch["mask"][:, 50:] = 0
    changed = {**batch, "targets": batch["targets"].clone()}
    changed["targets"][:, 50:] = 0
    loss = CMT.build_loss(network, None)
    torch.testing.assert_close(loss(batch), loss(changed))
    changed["targets"][:, 49] = 0
    assert not torch.allclose(loss(batch), loss(changed))


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": 3},
        {"width": 31, "heads": 1},
        {"layers": 0},
        {"layers": 10_000},
        {"width": 1 << 20},
        {"feedforward": 0},
        {"context_words": 2},
        {"context_words": 1 << 20},
        {"attention": "sparse"},
        {"compat": "strict"},
    ],
)
def test_invalid_configurations_of_cmt_are_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(TINY_CMT, **changes)


def test_configuration_and_weights_of_cmt_are_restored() -> None:
    network = make_network(compat="official").eval()
    batch = make_batch(network.config)
    config = read_config(CmtConfig, json.dumps(asdict(network.config)))
    assert config == network.config
    restored = CMT.build_network(config).eval()
    restored.load_state_dict(network.state_dict())
    types = batch["targets"][..., Column.TYPE]
    with torch.no_grad():
        pairs = zip(
            network(batch["initial"], batch["words"], types),
            restored(batch["initial"], batch["words"], types),
            strict=True,
        )
        assert all(torch.equal(before, after) for before, after in pairs)


def test_configurations_of_both_sizes_can_be_read() -> None:
    for config in CMT.configs.values():
        assert read_config(CmtConfig, json.dumps(asdict(config))) == config
    assert len(CMT.configs) == 2


def test_all_values_of_the_vocabulary_can_be_embedded() -> None:
    network = make_network().eval()
    words = torch.tensor([[[n - 1 for n in VOCABULARY_SIZES] + [N_TIMES - 1, 100_000]]])
    assert network.embed_words(words).isfinite().all()
