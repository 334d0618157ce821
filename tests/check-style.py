#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check-style.py [FOLDER] - the rules of style that a program can check, one line a fault."""
import re
import sys
from pathlib import Path

MAX_FUNCTION = 100  # lines between the braces
MAX_FILE = 800
MAX_COLUMNS = 100
TAB = 8

SKIPPED = re.compile(r"(\.git|build[^/]*|quickstart\.d|tests/golden|tests/fuzz/corpus)(/|$)"
                     r"|.*/__pycache__/|LICENSE$")
# Texts, examples and data: no licence line, no limits of length.
PROSE = {".md", ".pod", ".json", ".svg", ".yaml", ".txt"}
SPDX = "SPDX-License-Identifier: Apache-2.0"
# A home folder: such a path exists on one machine only.
LOCAL_PATH = re.compile(r"(?<![\w.$}/-])/(home|Users|workspace)/(?!user\b)\w")
# Of C only: (pattern, fault)
C_RULES = [
    (re.compile(r"^\s*//"), "comment with //"),
    (re.compile(r"\btypedef\s+(struct|union|enum)\b"), "typedef of a struct, union or enum"),
    (re.compile(r"\b(TODO|FIXME|XXX)\b"), "unfinished"),
    (re.compile(r"\b(strcat|vsprintf|gets|atoi|atol|alloca)\s*\("), "unsafe function"),
    (re.compile(r"^ {8}"), "indented with spaces"),
]


def source_files(root):
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink() and not SKIPPED.match(name):
            yield name, path


def function_faults(lines):
    """A function's braces stand alone in the first column; nothing else's do."""
    start = 0
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            if number - start - 1 > MAX_FUNCTION:
                yield start, f"function of {number - start - 1} lines (limit {MAX_FUNCTION})"
            start = 0


def c_faults(lines):
    yield from function_faults(lines)
    for number, line in enumerate(lines, 1):
        if len(line.expandtabs(TAB)) > MAX_COLUMNS:
            yield number, f"{len(line.expandtabs(TAB))} columns (limit {MAX_COLUMNS})"
        for pattern, fault in C_RULES:
            if pattern.search(line):
                yield number, fault


def text_faults(text, lines, root):
    if text and not text.endswith("\n"):
        yield len(lines), "no newline at the end"
    if text.endswith("\n\n"):
        yield len(lines), "empty line at the end"
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
        if LOCAL_PATH.search(line) or len(root.parts) > 2 and f"{root}/" in line:
            yield number, "path of one machine"


def file_faults(path, root):
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return [(1, "not text: tests/golden and tests/fuzz/corpus are the places for data")]
    lines = text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")
    faults = list(text_faults(text, lines, root))
    if path.suffix in PROSE or path.name == ".gitignore":
        return faults
    if not any(SPDX in line for line in lines[:3]):
        faults.append((1, f"no line '{SPDX}' at the top"))
    if len(lines) > MAX_FILE:
        faults.append((MAX_FILE, f"file of {len(lines)} lines (limit {MAX_FILE})"))
    if path.suffix in (".c", ".h"):
        faults += c_faults(lines)
    return faults


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    count = faulty = 0
    for name, path in source_files(root):
        count += 1
        for number, fault in sorted(file_faults(path, root)):
            faulty += 1
            print(f"{name}:{number}: {fault}")
    print(f"{count} files, {faulty} faults")
    return 1 if faulty or not count else 0


if __name__ == "__main__":
    sys.exit(main())
