"""Waveform and envelopes of one zone of a soundfont at one pitch.

    sample -> loop -> resampling at the pitch, with vibrato -> low-pass filter -> tremolo

Generators, units and curves: SoundFont Technical Specification 2.04, section 9.1. The filter is
that of fluidsynth.
"""

from collections.abc import Callable, Mapping

import numpy as np
import scipy  # its submodules load at their first use: scipy.signal takes half a second

from loris_cli.array_types import Array, Float32Array
from loris_cli.composition.soundfont import SampleData
from loris_cli.composition.soundfont_zones import Amounts, Generator

G = Generator

LFO_REFERENCE_HZ = 8.176
"""Frequency of 0 absolute cents, that of MIDI pitch 0."""
OPEN_FILTER_CENTS = 13500
"""Cutoff at and above which there is no filter."""
OPEN_FILTER_GAIN = 10 ** (3.01 / 40)
"""Gain of fluidsynth's open filter."""
FILTER_BLOCK = 64
"""Samples for which a modulated cutoff is constant, as in fluidsynth."""
FILTER_STEP_CENTS = 10
"""Blocks whose cutoffs are within one step are filtered in one call."""
RESAMPLE_BLOCK = 8192
"""Samples resampled at a time, so that the temporary arrays fit into the cache."""
PITCH_MODULATIONS = (G.MOD_LFO_TO_PITCH, G.VIBRATO_LFO_TO_PITCH, G.MOD_ENVELOPE_TO_PITCH)
MIN_RATIO, MAX_RATIO = 1 / 64, 64.0
"""Range of the resampling ratio, six octaves in both directions."""
MAX_DECAY_DB = 96.0
"""Decay of the volume envelope in its decay time."""


def timecents_to_s(timecents: float) -> float:
    """Return a duration in seconds; -12,000 timecents and less are 0."""
    return 0.0 if timecents <= -12000 else float(2 ** (timecents / 1200))


def render_waveform(
    amounts: Amounts,
    get_sample: Callable[[int], SampleData],
    *,
    pitch: int,
    n_samples: int,
    rate_hz: int,
) -> Float32Array:
    """Render a zone at a pitch, before its volume envelope.

    Args:
        amounts: amounts of all generators.
        get_sample: decodes a sample.
        pitch: MIDI pitch with which the note sounds (`Zone.resolve_note`).
        n_samples: maximum length of the result.
        rate_hz: sampling rate of the result.

    Returns:
        ``(samples,)``; shorter than ``n_samples`` if the sample ends and has no loop.
    """
    sample = _apply_offsets(get_sample(amounts[G.SAMPLE]), amounts)
    ratio = _resampling_ratio(sample, amounts, pitch, rate_hz)
    is_looped = bool(amounts[G.SAMPLE_MODES] & 1) and sample.loop_end > sample.loop_start
    if not is_looped:
        lowest_cents = -sum(abs(amounts[kind]) for kind in PITCH_MODULATIONS)
        lowest_ratio = max(ratio * 2 ** (lowest_cents / 1200), MIN_RATIO)
        n_samples = min(n_samples, int(len(sample.samples) / lowest_ratio) + 1)
    bend_cents = _sum_modulation(PITCH_MODULATIONS, amounts, pitch, n_samples, rate_hz)
    if bend_cents is None:
        positions = np.arange(n_samples, dtype=np.float64) * ratio
    else:
        steps = (ratio * 2 ** (bend_cents / 1200)).clip(MIN_RATIO, MAX_RATIO)
        positions = np.cumsum(steps) - steps
    if is_looped:
        source, positions = _wrap_loop(sample, positions)
    else:
        source = sample.samples
        positions = positions[: np.searchsorted(positions, len(source) - 1, side="right")]
    waveform = _interpolate_cubic(source, positions)
    waveform = _filter(waveform, amounts, pitch, rate_hz)
    tremolo_cb = _sum_modulation((G.MOD_LFO_TO_VOLUME,), amounts, pitch, len(waveform), rate_hz)
    if tremolo_cb is not None:
        waveform *= 10 ** (tremolo_cb / 200)
    return waveform


def compute_volume_envelope(
    amounts: Amounts, pitch: int, n_samples: int, rate_hz: int
) -> Float32Array:
    """Return the amplitude before the release, ``(n_samples,)``, 0..1."""
    times_s = np.arange(n_samples) / rate_hz
    delay_s, attack_s = (timecents_to_s(amounts[g]) for g in (G.VOLUME_DELAY, G.VOLUME_ATTACK))
    hold_s = _keyed_duration_s(amounts, G.VOLUME_HOLD, G.KEY_TO_VOLUME_HOLD, pitch)
    decay_s = _keyed_duration_s(amounts, G.VOLUME_DECAY, G.KEY_TO_VOLUME_DECAY, pitch)
    decay_db = np.maximum(times_s - (delay_s + attack_s + hold_s), 0).astype(np.float32)
    decay_db *= np.float32(MAX_DECAY_DB / max(decay_s, 1e-3))
    sustain_db = min(amounts[G.VOLUME_SUSTAIN] / 10, MAX_DECAY_DB)
    np.minimum(decay_db, np.float32(sustain_db), out=decay_db)
    level: Float32Array = np.exp(decay_db * np.float32(-np.log(10) / 20))
    n_rising = int(np.searchsorted(times_s, delay_s + attack_s))
    level[:n_rising] = _attack_levels(times_s[:n_rising], delay_s, attack_s)
    return level


def _resampling_ratio(sample: SampleData, amounts: Amounts, pitch: int, rate_hz: int) -> float:
    """Return the step in the sample per output sample."""
    root = amounts[G.ROOT_KEY] if 0 <= amounts[G.ROOT_KEY] <= 127 else sample.pitch
    cents = (pitch - root) * amounts[G.SCALE_TUNING] + sample.correction_cents
    cents += 100 * amounts[G.COARSE_TUNE] + amounts[G.FINE_TUNE]
    octaves = float(np.clip(cents / 1200, -16, 16))
    return float(np.clip(sample.rate_hz / rate_hz * 2**octaves, MIN_RATIO, MAX_RATIO))


def _apply_offsets(sample: SampleData, amounts: Amounts) -> SampleData:
    """Move the ends and the loop of a sample by the address offsets of a zone."""
    start, end, loop_start, loop_end = (
        amounts[fine] + 32768 * amounts[coarse]
        for fine, coarse in (
            (G.START_OFFSET, G.START_OFFSET_COARSE),
            (G.END_OFFSET, G.END_OFFSET_COARSE),
            (G.LOOP_START_OFFSET, G.LOOP_START_OFFSET_COARSE),
            (G.LOOP_END_OFFSET, G.LOOP_END_OFFSET_COARSE),
        )
    )
    if not (start or end or loop_start or loop_end):
        return sample
    start = max(min(start, len(sample.samples) - 1), 0)
    end = max(len(sample.samples) + min(end, 0), start + 1)
    samples = sample.samples[start:end]
    loop_start += sample.loop_start - start
    loop_end += sample.loop_end - start
    if not 0 <= loop_start < loop_end <= len(samples):
        loop_start = loop_end = 0
    return SampleData(
        samples=samples,
        loop_start=loop_start,
        loop_end=loop_end,
        rate_hz=sample.rate_hz,
        pitch=sample.pitch,
        correction_cents=sample.correction_cents,
    )


def _wrap_loop(sample: SampleData, positions: Array) -> tuple[Float32Array, Array]:
    """Return a sample whose loop is repeated once, and the positions wrapped into it.

    Positions in the second repetition have the neighbours of all later repetitions.
    """
    end = sample.loop_end
    loop = sample.samples[sample.loop_start : end]
    n_before = int(np.searchsorted(positions, end))
    wrapped = positions[n_before:]
    # np.mod is several times slower.
    wrapped = wrapped - len(loop) * np.floor((wrapped - end) / len(loop))
    source = np.concatenate([sample.samples[:end], np.resize(loop, len(loop) + 2)])
    return source, np.concatenate([positions[:n_before], wrapped])


def _interpolate_cubic(source: Float32Array, positions: Array) -> Float32Array:
    """Interpolate with cubic Hermite (Catmull-Rom) polynomials.

    Args:
        source: ``(samples,)``.
        positions: positions in the source, ``(n,)``, 0 or more; the source is constant
            before its start and silent after its end.

    Returns:
        ``(n,)``
    """
    padded = np.concatenate([source[:1], source, np.zeros(3, dtype=np.float32)])
    before, value, after, second = (padded[k : len(padded) - 3 + k] for k in range(4))
    coefficients = (
        1.5 * (value - after) + 0.5 * (second - before),
        before - 2.5 * value + 2 * after - 0.5 * second,
        0.5 * (after - before),
        np.ascontiguousarray(value),
    )
    result = np.empty(len(positions), dtype=np.float32)
    for first in range(0, len(positions), RESAMPLE_BLOCK):
        block = positions[first : first + RESAMPLE_BLOCK]
        index = block.astype(np.intp)
        fraction = (block - index).astype(np.float32)
        sums = coefficients[0].take(index)
        for coefficient in coefficients[1:]:
            sums *= fraction
            sums += coefficient.take(index)
        result[first : first + len(block)] = sums
    return result


def _filter(waveform: Float32Array, amounts: Amounts, pitch: int, rate_hz: int) -> Float32Array:
    """Apply the resonant low-pass filter of a zone."""
    cutoffs = np.full(1, amounts[G.FILTER_CUTOFF], dtype=np.float64)
    n_blocks = -(-len(waveform) // FILTER_BLOCK)
    modulation = _sum_modulation(
        (G.MOD_LFO_TO_FILTER, G.MOD_ENVELOPE_TO_FILTER),
        amounts, pitch, n_blocks, rate_hz / FILTER_BLOCK,
    )  # fmt: skip
    if modulation is not None:
        cutoffs = cutoffs + modulation
    if not len(waveform):
        return waveform
    if amounts[G.FILTER_Q] == 0 and cutoffs.min(initial=OPEN_FILTER_CENTS) >= OPEN_FILTER_CENTS:
        return waveform * np.float32(OPEN_FILTER_GAIN)
    steps = np.round(np.minimum(cutoffs, OPEN_FILTER_CENTS) / FILTER_STEP_CENTS)
    firsts = np.flatnonzero(np.diff(steps, prepend=np.nan) != 0)
    ends = [*(firsts[1:] * FILTER_BLOCK).tolist(), len(waveform)]
    result, state = np.empty_like(waveform), np.zeros(2)
    for first, end in zip(firsts.tolist(), ends, strict=True):
        numerator, denominator = _low_pass_coefficients(
            float(steps[first]) * FILTER_STEP_CENTS, amounts[G.FILTER_Q] / 10, rate_hz
        )
        part = slice(first * FILTER_BLOCK, end)
        result[part], state = scipy.signal.lfilter(
            numerator, denominator, waveform[part], zi=state
        )
    return result


def _low_pass_coefficients(
    cutoff_cents: float, q_db: float, rate_hz: float
) -> tuple[list[float], list[float]]:
    """Return a second-order low-pass filter (Bristow-Johnson, Audio EQ Cookbook).

    The gain is divided by the square root of Q, as in fluidsynth.
    """
    q = 10 ** ((q_db - 3.01) / 20)
    cutoff_hz = min(max(LFO_REFERENCE_HZ * 2 ** (cutoff_cents / 1200), 5.0), 0.45 * rate_hz)
    omega = 2 * np.pi * cutoff_hz / rate_hz
    alpha, cosine = float(np.sin(omega)) / (2 * q), float(np.cos(omega))
    b1 = (1 - cosine) / q**0.5
    a0 = 1 + alpha
    return [b1 / 2 / a0, b1 / a0, b1 / 2 / a0], [1.0, -2 * cosine / a0, (1 - alpha) / a0]


def _keyed_duration_s(amounts: Amounts, duration: G, key_scale: G, pitch: int) -> float:
    """Return the duration of an envelope phase, which may depend on the pitch."""
    timecents = amounts[duration] + (60 - pitch) * amounts[key_scale]
    return timecents_to_s(min(timecents, 8000))


def _attack_levels(times_s: Array, delay_s: float, attack_s: float) -> Array:
    return np.maximum(times_s - delay_s, 0) / max(attack_s, 1e-9)


def _mod_envelope(amounts: Amounts, pitch: int, times_s: Array) -> Array:
    """Return the modulation envelope, 0..1: a convex attack, all else is linear."""
    delay_s, attack_s = (timecents_to_s(amounts[g]) for g in (G.MOD_DELAY, G.MOD_ATTACK))
    hold_s = _keyed_duration_s(amounts, G.MOD_HOLD, G.KEY_TO_MOD_HOLD, pitch)
    decay_s = _keyed_duration_s(amounts, G.MOD_DECAY, G.KEY_TO_MOD_DECAY, pitch)
    fall = np.maximum(times_s - (delay_s + attack_s + hold_s), 0) / max(decay_s, 1e-3)
    level = 1 - np.minimum(fall, amounts[G.MOD_SUSTAIN] / 1000)
    n_rising = int(np.searchsorted(times_s, delay_s + attack_s))
    rise = _attack_levels(times_s[:n_rising], delay_s, attack_s)
    # Convex over 96 dB of squared amplitude, as in fluidsynth.
    level[:n_rising] = np.maximum(1 + 40 / 96 * np.log10(rise.clip(1e-9, 1)), 0)
    return np.asarray(level)


def _mod_lfo(amounts: Amounts, pitch: int, times_s: Array) -> Array:
    return _triangle(times_s, amounts[G.MOD_LFO_DELAY], amounts[G.MOD_LFO_FREQUENCY])


def _vibrato_lfo(amounts: Amounts, pitch: int, times_s: Array) -> Array:
    return _triangle(times_s, amounts[G.VIBRATO_LFO_DELAY], amounts[G.VIBRATO_LFO_FREQUENCY])


def _triangle(times_s: Array, delay_timecents: int, frequency_cents: int) -> Array:
    """Return a triangle wave that starts at 0 and rises, -1..1."""
    frequency_hz = LFO_REFERENCE_HZ * 2 ** (frequency_cents / 1200)
    turns = np.maximum(times_s - timecents_to_s(delay_timecents), 0) * frequency_hz
    return np.asarray(1 - 4 * np.abs((turns + 0.25) % 1 - 0.5))


_MODULATION_SOURCES: Mapping[int, Callable[[Amounts, int, Array], Array]] = {
    G.MOD_LFO_TO_PITCH: _mod_lfo,
    G.MOD_LFO_TO_FILTER: _mod_lfo,
    G.MOD_LFO_TO_VOLUME: _mod_lfo,
    G.VIBRATO_LFO_TO_PITCH: _vibrato_lfo,
    G.MOD_ENVELOPE_TO_PITCH: _mod_envelope,
    G.MOD_ENVELOPE_TO_FILTER: _mod_envelope,
}


def _sum_modulation(
    generators: tuple[G, ...], amounts: Amounts, pitch: int, n_values: int, rate_hz: float
) -> Array | None:
    """Return the sum of modulations, ``(n_values,)``, in the unit of their generators.

    None if all are zero.
    """
    active = [kind for kind in generators if amounts[kind]]
    if not active:
        return None
    times_s = np.arange(n_values) / rate_hz
    sources = (_MODULATION_SOURCES[kind](amounts, pitch, times_s) for kind in active)
    return np.asarray(sum(amounts[kind] * x for kind, x in zip(active, sources, strict=True)))
