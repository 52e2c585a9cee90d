"""Splits that share nothing: clips of one performance, video or piece of music stay together.

groups of each clip -> clips that hang together -> seeded order -> test, val, train

The released lists put every test dance's performance, from another camera, into training (and
nearly every skating video); scores on them measure memory too.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence

TEST_SHARE = VAL_SHARE = 0.05
"""LORIS, Sec. 4.1: 90, 5 and 5 %."""


def assign_partitions(
    groups: Mapping[str, Sequence[Hashable]], *, seed: int = 0
) -> dict[str, str]:
    """Share clips out among ``train``, ``val`` and ``test``.

    Args:
        groups: of each clip, by its id: whatever it shares with other clips.
        seed: of the draw. The order of the clips has no say.

    Returns:
        the split of each clip. Test and val take whole families in the order of the draw while
        these fit their share, and one at least; with two families there is no test split, with
        one no val split either.
    """
    left = sorted(_connected_clips(groups), key=lambda family: _draw_key(family[0], seed))
    parts = [("test", TEST_SHARE), ("val", VAL_SHARE)][max(0, 3 - len(left)) :]
    found = dict.fromkeys(groups, "train")
    for part, share in parts:
        wanted = share * len(groups)
        taken: list[str] = []
        for family in left:
            # Over the share by no more than half a family.
            if len(taken) + len(family) / 2 <= wanted:
                taken += family
        taken = taken or min(left, key=len)
        found |= dict.fromkeys(taken, part)
        left = [family for family in left if found[family[0]] == "train"]
    return found


def _connected_clips(groups: Mapping[str, Sequence[Hashable]]) -> list[list[str]]:
    """Clips that share a group, or share one with a clip that does; each sorted."""
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for clip, shared in groups.items():
        for group in shared:
            parent[root(("clip", clip))] = root(("group", group))
    families: dict[Hashable, list[str]] = {}
    for clip in sorted(groups):
        families.setdefault(root(("clip", clip)), []).append(clip)
    return list(families.values())


def _draw_key(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
