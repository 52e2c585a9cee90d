"""Sampling of words as in the released code of CMT (``src/model.py``).

Nothing but the replacements by the video constrains the words. The faults of the procedure are
listed in docs/differences.md (C3 to C8).
"""

from itertools import chain

from loris_cli.baselines.bar_grid import TICKS_PER_BAR
from loris_cli.baselines.cmt.sampling import MAX_WORDS_PER_BAR, ControlledSampler
from loris_cli.baselines.cmt.video_control import VideoControl
from loris_cli.baselines.cmt.word_context import Attributes, WordContext
from loris_cli.baselines.cmt.words import (
    BAR,
    N_TIMES,
    VOCABULARY_SIZES,
    Column,
    Track,
    Words,
    WordType,
    bar_word,
)
from loris_cli.models.generator_interface import ProgressCallback

VISUAL_BEAT_TRACKS = (Track.DRUMS, Track.PIANO, Track.GUITAR)
"""Tracks that play on each visual beat; hard-coded in the released code (C6)."""


def list_control_words(control: VideoControl) -> list[tuple[int, int]]:
    """Return attribute ``beat`` and density or strength of each bar and visual beat.

    Released classes count from 1: densities are 1 to 17 and strengths 2 to 10.
    """
    return list(
        chain.from_iterable(
            [
                (BAR, bar.density_class + 1),
                *((tick + 1, strength + 1) for tick, strength in bar.strength_classes.items()),
            ]
            for bar in control.bars
        )
    )


def sample_as_released(sampler: ControlledSampler, progress: ProgressCallback) -> Words:
    """Return the words of a clip, ``(words, 9)``; progress is in words of the control."""
    context = WordContext(sampler.network, sampler.initial)
    entries = list_control_words(sampler.control)
    n_done, n_tracks, n_in_bar, bar, density, beat, time = 1, 0, 0, 0, 1, 1, 1
    context.append(bar_word(entries[0][1] - 1), tick=0, time=1)
    progress(n_done, len(entries))
    while n_done < len(entries):
        word = _draw_word(sampler, context)
        n_in_bar += 1
        if n_in_bar > MAX_WORDS_PER_BAR:  # the released code may never end
            word = bar_word(max(word[Column.DENSITY], 1) - 1)
        next_beat, value = entries[n_done]
        if next_beat == BAR and word.get(Column.BEAT) == BAR:
            n_done, n_in_bar = n_done + 1, 0
            if sampler.rng.random() < sampler.control_probability:
                word = bar_word(value - 1)
        elif next_beat < BAR and word.get(Column.BEAT, 0) >= next_beat:
            if n_tracks == 0:
                density = 1 if word[Column.BEAT] == BAR else word.get(Column.DENSITY, 0)
            word = {
                Column.BEAT: next_beat,
                Column.TYPE: WordType.METER,
                Column.DENSITY: density,
                Column.TRACK: VISUAL_BEAT_TRACKS[n_tracks],
                Column.STRENGTH: value,
            }
            n_tracks = (n_tracks + 1) % len(VISUAL_BEAT_TRACKS)
            n_done += n_tracks == 0
        progress(n_done, len(entries))
        bar += word.get(Column.BEAT) == BAR
        if word[Column.TYPE] == WordType.METER:
            beat = 1 if word[Column.BEAT] == BAR else word[Column.BEAT]
            position = (bar * TICKS_PER_BAR + beat - 1) / sampler.control.n_ticks
            time = max(round(position * 100) + 1, 1)  # C7: training rounds down
        if time >= N_TIMES:
            break
        context.append(word, tick=max(bar * TICKS_PER_BAR + beat - 1, 0), time=time)
        if word[Column.TYPE] == WordType.END:
            break
    return context.to_words()


def _draw_word(sampler: ControlledSampler, context: WordContext) -> Attributes:
    """Draw the type of the next word, then its other attributes independently."""
    draw, rng = sampler.settings.draw, sampler.rng
    word_type = draw(Column.TYPE, context.predict_type(), rng)
    word: Attributes = {Column.TYPE: word_type}
    logits = context.predict_attributes(word_type)
    for column in range(len(VOCABULARY_SIZES)):
        if column != Column.TYPE:
            word[Column(column)] = draw(Column(column), logits[column], rng)
    if word_type == WordType.NOTE and word[Column.TRACK] == 0:
        word[Column.TRACK] = int(Track.DRUMS)
    return word
