"""Look into a built wheel: ``check_wheel.py WHEEL``. Only the standard library is needed."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA_PATTERNS = (
    "*.safetensors", "*.npz", "*.tflite", "*.html", "*.json", "py.typed", "LICENSE*",
)  # fmt: skip


def find_problems(wheel_path: str) -> list[str]:
    """What is wrong with the wheel; nothing where all is well."""
    names = set(zipfile.ZipFile(wheel_path).namelist())
    roots = {name.split("/")[0] for name in names}
    ours = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", *DATA_PATTERNS)
        for path in (ROOT / "loris_cli").rglob(pattern)
    }
    commands = {f"loris_cli/commands/{p.name}" for p in (ROOT / "commands").glob("*.py")}
    wrong = [f"it lacks {name}" for name in sorted((ours | commands) - names)]
    wrong += [
        f"it installs a top-level {root}"
        for root in sorted(roots - {"loris_cli"})
        if not root.endswith(".dist-info")
    ]
    size_mb = Path(wheel_path).stat().st_size / 1e6
    print(f"{Path(wheel_path).name}: {len(names)} files, {size_mb:.1f} MB")
    if size_mb > 100:
        wrong.append("it is larger than a package index takes (100 MB)")
    return wrong


if __name__ == "__main__":
    sys.exit("; ".join(find_problems(sys.argv[1])) or 0)
