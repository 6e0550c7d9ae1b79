"""What the tests reached, by gcov, and what they must (make coverage).

    python3 tests/coverage.py BUILD [--missed FILE.c ...]      standard library alone

BUILD holds the .gcno and .gcda of one or more programs over the same sources; counts are summed by
line and branch.  A parser must be reached in every line and in 95 of 100 branches, all code together
in 90 of 100 lines.  A line that no test can reach says why in a comment, `unreached: why`, and is
taken out with its statement, up to MOST_EXCUSED lines in all.  --missed prints the lines and branches of a file that were not reached.
Closes with `N passed, N failed`."""
import argparse
import collections
import glob
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PARSERS = ("json.c", "safetensors.c", "tok.c", "png.c", "jpeg.c", "picture.c", "wav.c", "numbers.c", "opt.c",
           "story.c", "index.c", "phrases.c", "styles.c", "prompt.c")
MOST_EXCUSED = 40


def counts(build):
    """{file: {line: [times, [times a branch was taken]]}} over all programs in BUILD."""
    files = collections.defaultdict(dict)
    for data in sorted(glob.glob(os.path.join(build, "*.gcda"))):
        text = subprocess.run(["gcov", "--json-format", "--stdout", "-b", os.path.abspath(data)], cwd=ROOT,
                              capture_output=True, check=True).stdout
        for part in text.splitlines():
            for file in json.loads(part)["files"]:
                name = os.path.relpath(os.path.join(ROOT, file["file"]), ROOT)
                if "/" in name:
                    continue
                for line in file["lines"]:
                    taken = [b["count"] for b in line["branches"]]
                    old = files[name].setdefault(line["line_number"], [0, []])
                    old[0] += line["count"]
                    old[1] = [a + b for a, b in zip(old[1], taken)] if len(old[1]) == len(taken) else \
                        max(old[1], taken, key=len)
    return files


def excused(source):
    """Lines of a statement behind `unreached: why`, the comment's own among them."""
    lines, open_ = set(), False
    for n, text in enumerate(source, 1):
        open_ = open_ or bool(re.search(r"unreached: \w", text))
        if open_:
            lines.add(n)
            open_ = not text.rstrip().endswith(";")
    return lines


def possible(source, n, taken):
    """The branches of line n without that of `... || fail(...)` being true, which it never is."""
    text = source[n - 1] + (source[n] if source[n - 1].rstrip().endswith("||") and n < len(source) else "")
    never = len(re.findall(r"\|\|\s+(?:fail|out_of_memory|bad|wrong|refuse|misuse)\(", text))
    for _ in range(never):
        if 0 in taken:
            taken = taken[:taken.index(0)] + taken[taken.index(0) + 1:]
    return taken


def main():
    args = argparse.ArgumentParser()
    args.add_argument("build")
    args.add_argument("--missed", nargs="*", default=[])
    args = args.parse_args()
    files = counts(args.build)
    for name in args.missed:
        source = open(os.path.join(ROOT, name)).read().splitlines()
        for n, (times, taken) in sorted(files[name].items()):
            if not times or not all(taken):
                print(f"{name}:{n}: {'line' if not times else ' '.join(map(str, taken)):12} {source[n - 1].strip()}")
    if args.missed:
        return
    rows, free = [], 0
    for name in sorted(n for n in files if n.endswith((".c", ".h"))):
        with open(os.path.join(ROOT, name)) as f:
            source = f.read().splitlines()
        free_lines = excused(source)
        free += len(free_lines)
        lines = {n: v for n, v in files[name].items() if n not in free_lines}
        branches = [t for n, (_, taken) in lines.items() for t in possible(source, n, taken)]
        rows.append((name, sum(v[0] > 0 for v in lines.values()), len(lines), sum(t > 0 for t in branches), len(branches)))
    passed, failed = 0, []
    def check(fact, what):
        nonlocal passed
        passed += bool(fact)
        if not fact:
            failed.append(what)
    for name, hit, lines, taken, branches in rows:
        parser = name in PARSERS
        print(f"{name:16} {100 * hit / lines:6.2f} % of {lines:4} lines  "
              f"{100 * taken / max(branches, 1):6.2f} % of {branches:4} branches{'  parser' if parser else ''}")
        if parser:
            check(hit == lines, f"{name}: {lines - hit} lines of a parser were not reached")
            check(taken >= 0.95 * branches, f"{name}: {100 * taken / branches:.2f} % of a parser's branches, want 95")
    hit, lines = sum(r[1] for r in rows), sum(r[2] for r in rows)
    taken, branches = sum(r[3] for r in rows), sum(r[4] for r in rows)
    print(f"{'all':16} {100 * hit / lines:6.2f} % of {lines:5} lines  {100 * taken / branches:6.2f} % of {branches} branches")
    check(hit >= 0.9 * lines, f"{100 * hit / lines:.2f} % of all lines, want 90")
    check(free <= MOST_EXCUSED, f"{free} lines are excused, want at most {MOST_EXCUSED}")
    check(all(any(r[0] == name for r in rows) for name in PARSERS), "a parser was not measured at all")
    for what in failed:
        print("FAILED", what)
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(bool(failed))


main()
