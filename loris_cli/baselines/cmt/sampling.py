"""Sampling of words under the control of a video (Di et al., 2021, Sec. 3.4).

    control, network, seed -> words of each bar, with density and strength of the video

Attributes of the video replace those that the network would draw with a given probability. The
words that are drawn form a valid piece: bars follow each other to the end of the clip, ticks
and tracks increase, and bars and beats have as many ticks and notes as their words announce.
The released code lacks these rules (docs/differences.md, C4 and C5); `official_sampling` does
as it does.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loris_cli.baselines.bar_grid import TICKS_PER_BAR
from loris_cli.baselines.cmt.network import CmtNetwork
from loris_cli.baselines.cmt.video_control import STRENGTHS_BY_CLASS, VideoControl
from loris_cli.baselines.cmt.word_context import (
    Attributes,
    Mask,
    SamplingSettings,
    WordContext,
)
from loris_cli.baselines.cmt.words import (
    BAR,
    VOCABULARY_SIZES,
    Column,
    Track,
    Words,
    WordType,
    bar_word,
    beat_word,
    note_word,
    time_position,
)
from loris_cli.models.generator_interface import ProgressCallback

CONTROL_PROBABILITY = 0.7
"""Probability that an attribute of the video replaces a drawn one (released code, ``C``)."""
MAX_WORDS_PER_BAR = 128
"""After this number of words, each further tick of a bar has one note. Bars of the training
music have at most about 75 words (experiments/cmt_tables.py)."""


@dataclass(frozen=True, kw_only=True)
class ControlledSampler:
    """Network and settings that sample the words of a clip."""

    network: CmtNetwork
    control: VideoControl
    initial: NDArray[np.int64]
    """Initial tokens, ``(7, 3)``."""
    rng: np.random.Generator
    control_probability: float = CONTROL_PROBABILITY
    settings: SamplingSettings = field(default_factory=SamplingSettings)

    def sample(self, progress: ProgressCallback) -> Words:
        """Return the words of all bars, ``(words, 9)``; progress is in bars."""
        writer = _BarWriter(self)
        for index in range(len(self.control.bars)):
            writer.write_bar(index)
            progress(index + 1, len(self.control.bars))
        return writer.context.to_words()


class _BarWriter:
    """Writer of the words of one bar after the other."""

    def __init__(self, sampler: ControlledSampler) -> None:
        self.sampler = sampler
        self.context = WordContext(sampler.network, sampler.initial)
        self.bar_tick = 0

    def write_bar(self, index: int) -> None:
        """Write a bar word and the words of its ticks."""
        control = self.sampler.control.bars[index]
        self.bar_tick = index * TICKS_PER_BAR
        n_ticks = control.n_ticks
        if index and not self._is_controlled():  # the network predicts no first word
            density = self._draw(Column.DENSITY, WordType.METER, _allow(Column.DENSITY, 1))
            n_ticks = density - 1
        visual_beats = {
            tick: strength
            for tick, strength in control.strength_classes.items()
            if self._is_controlled()
        }
        n_ticks = max(n_ticks, len(visual_beats))
        self._append(bar_word(n_ticks), 0)
        self._write_ticks(n_ticks, visual_beats)

    def _write_ticks(self, n_ticks: int, visual_beats: dict[int, int]) -> None:
        """Write the notes of ``n_ticks`` ticks, all visual beats among them."""
        tick, track, first_word = -1, 0, len(self.context.rows)
        n_left = n_ticks
        while True:
            is_long = len(self.context.rows) - first_word >= MAX_WORDS_PER_BAR
            allowed = allow_beats(tick, n_left, visual_beats)
            allowed[tick + 1] = tick >= 0 and track < Track.STRINGS and not is_long
            beat = self._draw(Column.BEAT, WordType.METER, allowed)
            if beat == BAR:
                return
            is_new_tick = beat - 1 != tick
            if is_new_tick:
                tick, track, n_left = beat - 1, 0, n_left - 1
            if is_new_tick and tick in visual_beats:
                track = int(Track.DRUMS)  # docs/differences.md, C6
            else:
                allowed_tracks = _allow(Column.TRACK, track + 1)
                track = self._draw(Column.TRACK, WordType.METER, allowed_tracks)
            if is_long:
                strength = 1
            elif tick in visual_beats:
                strength = STRENGTHS_BY_CLASS[Track(track)][visual_beats[tick]]
            else:
                allowed = _allow(Column.STRENGTH, 1)
                strength = self._draw(Column.STRENGTH, WordType.METER, allowed)
            self._append(beat_word(tick, n_left, track, strength), tick)
            self._write_notes(tick, track, strength)

    def _write_notes(self, tick: int, track: int, n_notes: int) -> None:
        """Write notes of different pitches."""
        allowed = _allow(Column.PITCH, 1)
        for _ in range(n_notes):
            pitch = self._draw(Column.PITCH, WordType.NOTE, allowed)
            allowed[pitch] = False
            duration = self._draw(Column.DURATION, WordType.NOTE, _allow(Column.DURATION, 2))
            self._append(note_word(track, pitch - 1, duration - 1), tick)

    def _is_controlled(self) -> bool:
        return bool(self.sampler.rng.random() < self.sampler.control_probability)

    def _draw(self, column: Column, word_type: WordType, allowed: Mask) -> int:
        logits = self.context.predict_attributes(word_type)[column]
        return self.sampler.settings.draw(column, logits, self.sampler.rng, allowed=allowed)

    def _append(self, attributes: Attributes, tick: int) -> None:
        position = self.bar_tick + tick
        time = time_position(position, self.sampler.control.n_ticks)
        self.context.append(attributes, tick=position, time=time)


def _allow(column: Column, first: int) -> Mask:
    """Return a mask that allows the values from ``first`` on."""
    return np.arange(VOCABULARY_SIZES[column]) >= first


def allow_beats(tick: int, n_left: int, visual_beats: dict[int, int]) -> Mask:
    """Return the values of the attribute ``beat`` that may follow, apart from the same tick.

    The bar ends after its number of ticks. No visual beat is skipped, and enough later ticks
    remain for the notes that are left.

    Args:
        tick: tick of the last beat word in the bar; -1 after the bar word.
        n_left: number of ticks that are still to come, at least the number of later visual
            beats, at most the number of later ticks.
        visual_beats: ticks that must have notes.

    Returns:
        mask, ``(18,)``, with at least one value.
    """
    allowed = np.zeros(VOCABULARY_SIZES[Column.BEAT], dtype=bool)
    if n_left == 0:
        allowed[BAR] = True
        return allowed
    later = [beat for beat in visual_beats if beat > tick]
    last = min(later, default=TICKS_PER_BAR - 1)
    last = min(last, TICKS_PER_BAR - n_left)
    allowed[tick + 2 : last + 2] = True
    if n_left == len(later):  # visual beats only
        allowed[:] = False
        allowed[min(later) + 1] = True
    return allowed
