"""Count lines of code by package: ``count_code.py [FOLDER...]``.

The default folders are `loris_cli` and `commands`. Blank lines, comments and docstrings do not
count. A docstring is any string expression statement, including those below fields and
constants.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def count_code_lines(source: str) -> int:
    """Return the number of lines of code in a module."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def main() -> None:
    """Print the lines and modules of each package and the totals."""
    folders = sys.argv[1:] or ["loris_cli", "commands"]
    lines: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).parts
            package = "/".join(parts[:2]) if len(parts) > 2 else parts[0]
            lines[package] += count_code_lines(path.read_text(encoding="utf-8"))
            modules[package] += 1
    for package in sorted(lines):
        print(f"{package:<24} {lines[package]:6} lines {modules[package]:4} modules")
    print(f"{'total':<24} {sum(lines.values()):6} lines {sum(modules.values()):4} modules")


if __name__ == "__main__":
    main()
