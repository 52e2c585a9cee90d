"""Weights of mmpose's networks, from where mmpose itself says they are.

name of a network -> mmpose's own lists -> address -> cache -> checksum in the file's name
"""

import hashlib
import re
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.errors import WeightsError
from loris_cli.pose.mmpose_estimator import PURPOSE, configuration
from loris_cli.system.atomic_files import printable
from loris_cli.system.downloads import fetch
from loris_cli.system.optional_packages import require
from loris_cli.system.progress import Reporter

NAMED_HASH = re.compile(r"-([0-9a-f]{8})_\d{8}\.pth$")
"""mmpose names its files by the first digits of their SHA-256 and their date."""


def zoo_address(network: str) -> str:
    """Where mmpose's lists say that the weights of a network are.

    Args:
        network: name of one of mmpose's configurations.

    Raises:
        WeightsError: the lists name none.
        MissingDependencyError: mmpose is absent.
        UsageError: mmpose has no such configuration.
    """
    yaml = require("yaml", extra="", purpose=PURPOSE)
    for listed in sorted(configuration(network).parent.glob("*.yml")):
        for model in (yaml.safe_load(listed.read_text(encoding="utf-8")) or {}).get(
            "Models", []
        ):
            if Path(model.get("Config", "")).stem == network and model.get("Weights"):
                return str(model["Weights"])
    raise WeightsError(f"mmpose names no weights of {network}", hint="name a file of your own")


def zoo_weights(network: str, *, offline: bool, reporter: Reporter) -> Path:
    """The published weights of a network: in the cache, or fetched into it.

    Args:
        network: name of one of mmpose's configurations.
        offline: whether the network may not be asked.
        reporter: whom to tell.

    Raises:
        WeightsError: they cannot be had, or are not those that their name promises.
    """
    url = zoo_address(network)
    place = cache_home() / "weights" / url.rpartition("/")[2]
    named = NAMED_HASH.search(place.name)
    if not place.is_file():
        fetch(
            url,
            place,
            sha256=None,
            instead=f"put the file of {url} at {place}, or name one: --weights FILE",
            offline=offline,
            reporter=reporter,
        )
    with place.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if named is not None and not digest.startswith(named[1]):
        raise WeightsError(
            f"{printable(place)} is not what its name promises: its SHA-256 begins with"
            f" {digest[:8]}",
            hint="remove it, and it is fetched anew",
        )
    return place
