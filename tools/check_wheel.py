"""Check the contents of a built wheel: ``check_wheel.py WHEEL``.

Needs only the standard library.
"""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA_PATTERNS = (
    "*.safetensors", "*.npz", "*.tflite", "*.html", "*.json", "py.typed", "LICENSE*",
    "NOTICE*",
)  # fmt: skip
MAX_SIZE_MB = 125
"""PyPI accepts more than 100 MB only on request."""


def find_problems(wheel_path: str) -> list[str]:
    """Return the problems of a wheel, or an empty list."""
    names = set(zipfile.ZipFile(wheel_path).namelist())
    roots = {name.split("/")[0] for name in names}
    ours = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", *DATA_PATTERNS)
        for path in (ROOT / "loris_cli").rglob(pattern)
    }
    commands = {f"loris_cli/commands/{p.name}" for p in (ROOT / "commands").glob("*.py")}
    problems = [f"missing file {name}" for name in sorted((ours | commands) - names)]
    problems += [
        f"unexpected top-level package {root}"
        for root in sorted(roots - {"loris_cli"})
        if not root.endswith(".dist-info")
    ]
    size_mb = Path(wheel_path).stat().st_size / 1e6
    print(f"{Path(wheel_path).name}: {len(names)} files, {size_mb:.1f} MB")
    if size_mb > MAX_SIZE_MB:
        problems.append(f"larger than {MAX_SIZE_MB} MB")
    return problems


if __name__ == "__main__":
    sys.exit("; ".join(find_problems(sys.argv[1])) or 0)
