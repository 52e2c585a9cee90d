"""Leak-free partitions: clips of one performance, video, song or dancer stay together.

groups of each clip -> connected components -> seeded order -> test, val, train

In the released lists, the performance of every test dance is also in the training set, recorded
by another camera, and so is nearly every skating video. Scores on these lists therefore also
measure memorization (docs/differences.md, D12).
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Groups = Sequence[Hashable]
"""Identifiers of the performance, video, music or dancer that clips share."""
TEST_FRACTION = VAL_FRACTION = 0.05
"""LORIS, Sec. 4.1: 90 % train, 5 % val, 5 % test."""


def assign_partitions(groups: Mapping[str, Groups], *, seed: int = 0) -> dict[str, str]:
    """Assign clips to ``train``, ``val`` and ``test``.

    Args:
        groups: groups of each clip, by clip id.
        seed: random seed of the order. The order of ``groups`` has no influence.

    Returns:
        partition of each clip, by clip id. Connected components are added to test, then to val,
        in seeded order, as long as they fit its target size; each gets at least one component.
        With two components there is no test partition, with one no val partition either.
    """
    remaining = sorted(_connected_clips(groups), key=lambda clips: _draw_key(clips[0], seed))
    fractions = [("test", TEST_FRACTION), ("val", VAL_FRACTION)][max(0, 3 - len(remaining)) :]
    assigned = dict.fromkeys(groups, "train")
    for partition, fraction in fractions:
        chosen: list[str] = []
        for clips in remaining:
            # A component may exceed the target size by at most half its own size.
            if len(chosen) + len(clips) / 2 <= fraction * len(groups):
                chosen += clips
        chosen = chosen or min(remaining, key=len)
        assigned |= dict.fromkeys(chosen, partition)
        remaining = [clips for clips in remaining if assigned[clips[0]] == "train"]
    return assigned


def _connected_clips(groups: Mapping[str, Groups]) -> list[list[str]]:
    """Return the connected components of clips that share groups, each sorted by id."""
    clips = sorted(groups)
    nodes = {group: k for k, group in enumerate(chain(*groups.values()), len(clips))}
    edges = [(k, nodes[group]) for k, clip in enumerate(clips) for group in groups[clip]]
    n_nodes = max(nodes.values(), default=len(clips) - 1) + 1
    rows, columns = np.array(edges, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(n_nodes, n_nodes))
    connected: dict[int, list[str]] = {}
    for clip, label in zip(clips, connected_components(graph, directed=False)[1], strict=False):
        connected.setdefault(label, []).append(clip)
    return list(connected.values())


def label_clusters(groups: Sequence[Groups]) -> list[str]:
    """Return a label for each clip; clips that share groups, directly or not, have the same."""
    labels: dict[int, str] = {}
    for clips in _connected_clips({f"{k:08d}": members for k, members in enumerate(groups)}):
        first = groups[int(clips[0])]
        labels |= dict.fromkeys(map(int, clips), str(first[0]) if first else f"clip:{clips[0]}")
    return [labels[k] for k in range(len(groups))]


def share_groups(groups: Sequence[Groups]) -> NDArray[np.bool_]:
    """Return which pairs of clips share at least one group, ``(clips, clips)``."""
    sets = [frozenset(members) for members in groups]
    return np.array([[a is b or not a.isdisjoint(b) for b in sets] for a in sets], dtype=bool)


def _draw_key(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
