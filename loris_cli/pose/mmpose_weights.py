"""Weights of mmpose's networks, from where mmpose itself says they are.

name of a network -> mmpose's own lists -> address -> cache -> checksum in the file's name
"""

import hashlib
import re
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.errors import WeightsError
from loris_cli.pose.mmpose_estimator import MMPOSE_PURPOSE, find_mmpose_config
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.downloads import download_file
from loris_cli.system.optional_packages import import_optional
from loris_cli.system.progress import Reporter

FILENAME_HASH = re.compile(r"-([0-9a-f]{8})_\d{8}\.pth$")
"""mmpose names its files by the first digits of their SHA-256 and their date."""


def find_weights_url(network: str) -> str:
    """Where mmpose's lists say that the weights of a network are.

    Args:
        network: name of one of mmpose's configurations.

    Raises:
        WeightsError: the lists name none.
        MissingDependencyError: mmpose is absent.
        UsageError: mmpose has no such configuration.
    """
    yaml = import_optional("yaml", extra="", purpose=MMPOSE_PURPOSE)
    for listed in sorted(find_mmpose_config(network).parent.glob("*.yml")):
        for model in (yaml.safe_load(listed.read_text(encoding="utf-8")) or {}).get(
            "Models", []
        ):
            if Path(model.get("Config", "")).stem == network and model.get("Weights"):
                return str(model["Weights"])
    raise WeightsError(f"mmpose names no weights of {network}", hint="name a file of your own")


def fetch_mmpose_weights(network: str, *, offline: bool, reporter: Reporter) -> Path:
    """The published weights of a network: in the cache, or fetched into it.

    Args:
        network: name of one of mmpose's configurations.
        offline: whether the network may not be asked.
        reporter: whom to tell.

    Raises:
        WeightsError: they cannot be had, or are not those that their name promises.
    """
    url = find_weights_url(network)
    place = cache_home() / "weights" / url.rpartition("/")[2]
    named = FILENAME_HASH.search(place.name)
    if not place.is_file():
        download_file(
            url,
            place,
            sha256=None,
            manual_hint=f"put the file of {url} at {place}, or name one: --weights FILE",
            offline=offline,
            reporter=reporter,
        )
    with place.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if named is not None and not digest.startswith(named[1]):
        raise WeightsError(
            f"{printable_path(place)} is not what its name promises: its SHA-256 begins with"
            f" {digest[:8]}",
            hint="remove it, and it is fetched anew",
        )
    return place
