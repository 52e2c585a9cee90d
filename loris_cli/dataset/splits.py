"""Splits that share nothing: clips of one performance, video or piece of music stay together.

groups of each clip -> clips that hang together -> seeded order -> test, val, train

The released lists put every test dance's performance, from another camera, into training (and
nearly every skating video); scores on them measure memory too.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence

TEST_SHARE = VAL_SHARE = 0.05
"""LORIS, Sec. 4.1: 90, 5 and 5 %."""


def split(groups: Mapping[str, Sequence[Hashable]], *, seed: int = 0) -> dict[str, str]:
    """Share clips out among ``train``, ``val`` and ``test``.

    Args:
        groups: of each clip, by its id: whatever it shares with other clips.
        seed: of the draw. The order of the clips has no say.

    Returns:
        the split of each clip. Test and val take whole families in the order of the draw until
        they hold their share; where there are three families or more each split has one.
    """
    families = sorted(_families(groups), key=lambda family: _lot(family[0], seed))
    shares = {"test": TEST_SHARE * len(groups), "val": VAL_SHARE * len(groups)}
    if len(families) < 2:
        shares = {}
    elif len(families) == 2:
        del shares["test"]
    found: dict[str, str] = {}
    counts = dict.fromkeys(shares, 0)
    for number, family in enumerate(families):
        left = len(families) - number
        name = "train"
        for part, share in shares.items():
            if counts[part] == 0 or counts[part] + len(family) / 2 <= share:
                name = part
                break
        if left == 1 and "train" not in found.values():
            name = "train"
        if name != "train":
            counts[name] += len(family)
        found |= dict.fromkeys(family, name)
    return found


def _families(groups: Mapping[str, Sequence[Hashable]]) -> list[list[str]]:
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


def _lot(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
