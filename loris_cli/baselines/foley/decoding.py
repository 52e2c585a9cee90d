"""Generation of the events of a window: nucleus sampling, beam search, greedy decoding.

Nucleus sampling and beam search generate valid sequences only (`EventGrammar`). The publication
does not describe such a constraint. Training sequences satisfy it (docs/differences.md, F13).
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loris_cli.baselines.foley.events import (
    END,
    N_EVENTS,
    N_PITCHES,
    N_SYMBOLS,
    NOTE_OFF,
    NOTE_ON,
    START,
    TIME_SHIFT,
    TIME_SHIFTS_S,
    VELOCITY,
)
from loris_cli.baselines.foley.network import FoleyNetwork

DecodingMethod = Literal["nucleus", "beam"]
NUCLEUS_MASS = 0.9
TEMPERATURE = 1.0
N_BEAMS = 5
"""Number of beams of the released code."""


@dataclass
class EventGrammar:
    """State of an event sequence, which determines the valid next symbols.

    A velocity is followed by a note-on of a silent pitch, and a note-on follows a velocity.
    Only sounding pitches have a note-off.
    """

    is_sounding: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(N_PITCHES, bool))
    clock_s: float = 0.0
    expects_note: bool = False

    def copy(self) -> "EventGrammar":
        """Return an independent copy."""
        return EventGrammar(self.is_sounding.copy(), self.clock_s, self.expects_note)

    def find_valid_symbols(self) -> NDArray[np.bool_]:
        """Return whether each symbol is valid next, ``(243,)``."""
        is_valid = np.zeros(N_SYMBOLS, dtype=bool)
        if self.expects_note:
            is_valid[NOTE_ON:NOTE_OFF] = ~self.is_sounding
            return is_valid
        is_valid[NOTE_OFF:VELOCITY] = self.is_sounding
        is_valid[VELOCITY:TIME_SHIFT] = not self.is_sounding.all()
        is_valid[TIME_SHIFT:N_EVENTS] = True
        is_valid[END] = True
        return is_valid

    def push(self, symbol: int) -> None:
        """Append an event to the sequence."""
        self.expects_note = VELOCITY <= symbol < TIME_SHIFT
        if symbol < VELOCITY:
            self.is_sounding[symbol % N_PITCHES] = symbol < NOTE_OFF
        elif TIME_SHIFT <= symbol < N_EVENTS:
            self.clock_s += float(TIME_SHIFTS_S[symbol - TIME_SHIFT])


@torch.inference_mode()
def sample_events(
    network: FoleyNetwork,
    tokens: Tensor,
    prefix: list[int],
    *,
    duration_s: float,
    generator: torch.Generator,
    temperature: float = TEMPERATURE,
    nucleus_mass: float = NUCLEUS_MASS,
) -> list[int]:
    """Sample events from the smallest set of symbols with a probability mass.

    Holtzman et al., "The Curious Case of Neural Text Degeneration" (ICLR 2020).

    Args:
        network: network in evaluation mode.
        tokens: pose tokens of the window, ``(1, tokens, features)``.
        prefix: first events of the window.
        duration_s: time after which no further events are generated.
        generator: random generator on the CPU.
        temperature: divisor of the logits; 0 is greedy.
        nucleus_mass: probability mass.

    Returns:
        events with the prefix, without `START` and `END`.
    """
    grammar, events = EventGrammar(), list(prefix)
    for event in prefix:
        grammar.push(event)
    cache = network.start_decoding(tokens)
    symbols = torch.tensor([[START, *prefix]], device=tokens.device)
    while cache.n_events + symbols.shape[1] <= network.config.max_events:
        logits = network.decode(symbols, cache)[0, -1].float().cpu()
        logits = logits.masked_fill(torch.from_numpy(~grammar.find_valid_symbols()), -torch.inf)
        symbol = draw_symbol(logits, generator, temperature, nucleus_mass)
        if symbol == END:
            break
        events.append(symbol)
        grammar.push(symbol)
        if grammar.clock_s >= duration_s:
            break
        symbols = torch.tensor([[symbol]], device=tokens.device)
    return events


def draw_symbol(
    logits: Tensor, generator: torch.Generator, temperature: float, nucleus_mass: float
) -> int:
    """Draw a symbol from the nucleus of a distribution, ``(symbols,)``."""
    if temperature == 0:
        return int(logits.argmax())
    ordered, symbols = (logits / temperature).softmax(dim=0).sort(descending=True, stable=True)
    is_nucleus = ordered.cumsum(0) - ordered < nucleus_mass
    index = torch.multinomial(ordered * is_nucleus, 1, generator=generator)
    return int(symbols[index])


@dataclass
class _Hypothesis:
    """Sequence of a beam search."""

    events: list[int]
    grammar: EventGrammar
    log_probability: float = 0.0
    n_symbols: int = 0

    def extend(self, symbol: int, log_probability: float) -> "_Hypothesis":
        grammar = self.grammar.copy()
        events = self.events if symbol == END else [*self.events, symbol]
        grammar.push(symbol)
        return _Hypothesis(events, grammar, log_probability, self.n_symbols + 1)

    @property
    def score(self) -> float:
        """Mean log probability of the generated symbols."""
        return self.log_probability / max(self.n_symbols, 1)


@torch.inference_mode()
def search_events(
    network: FoleyNetwork,
    tokens: Tensor,
    prefix: list[int],
    *,
    duration_s: float,
    n_beams: int = N_BEAMS,
) -> list[int]:
    """Search the most probable events with several beams.

    Args:
        network: network in evaluation mode.
        tokens: as in `sample_events`.
        prefix: as in `sample_events`.
        duration_s: as in `sample_events`.
        n_beams: number of beams.

    Returns:
        as `sample_events`; the sequence with the highest mean log probability.
    """
    grammar = EventGrammar()
    for event in prefix:
        grammar.push(event)
    beams, finished = [_Hypothesis(list(prefix), grammar)], list[_Hypothesis]()
    cache = network.start_decoding(tokens)
    symbols = torch.tensor([[START, *prefix]], device=tokens.device)
    while beams and len(finished) < n_beams:
        if cache.n_events + symbols.shape[1] > network.config.max_events:
            break
        logits = network.decode(symbols, cache)[:, -1].double().cpu()
        is_valid = np.stack([beam.grammar.find_valid_symbols() for beam in beams])
        scores = logits.masked_fill(torch.from_numpy(~is_valid), -torch.inf).log_softmax(1)
        scores += torch.tensor([[beam.log_probability] for beam in beams])
        best, index = scores.flatten().topk(min(n_beams, int(is_valid.sum())))
        parents, extended = [], []
        for score, position in zip(best.tolist(), index.tolist(), strict=True):
            parent, symbol = divmod(position, N_SYMBOLS)
            hypothesis = beams[parent].extend(symbol, score)
            if symbol == END or hypothesis.grammar.clock_s >= duration_s:
                finished.append(hypothesis)
            else:
                parents.append(parent)
                extended.append(hypothesis)
        beams = extended
        cache.select_rows(torch.tensor(parents, dtype=torch.long, device=tokens.device))
        symbols = torch.tensor([[beam.events[-1]] for beam in beams], device=tokens.device)
    return max(finished or beams, key=lambda hypothesis: hypothesis.score).events


@torch.inference_mode()
def decode_greedily(network: FoleyNetwork, tokens: Tensor) -> list[int]:
    """Return the symbols that the released beam search generates (docs/differences.md, F10).

    Its beams start equal and extend the same symbol, so they remain equal, and it does not stop
    at `END`.
    """
    cache = network.start_decoding(tokens)
    symbols: list[int] = []
    last = START
    while cache.n_events < network.config.max_events:
        logits = network.decode(torch.tensor([[last]], device=tokens.device), cache)
        last = int(logits[0, -1].argmax())
        symbols.append(last)
    return symbols
