"""Writes unicode.h: what the tokenizers library takes for a letter, a number, lower case and NFC.

    python tests/unicode.py > unicode.h

For developers.  Nothing is taken from a Unicode file: the library is asked about every code point,
so the tables hold the Unicode versions that it was built with (its parts are of different ones).
"""
import importlib.metadata

import unicodedata
from tokenizers import Regex, normalizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
DECOMPOSED_MOST = 4
nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
lower = normalizers.Lowercase().normalize_str


def matching(pattern):
    """The code points that a regular expression of the library matches."""
    erase = normalizers.Replace(Regex(pattern), "").normalize_str
    return [c for c in POINTS if erase(chr(c)) == ""]


def ranges(points):
    rows = []
    for c in points:
        if rows and rows[-1][1] == c - 1:
            rows[-1][1] = c
        else:
            rows.append([c, c])
    return rows


def lower_ranges():
    """[first, last, step, delta]: each step-th point of first..last has its lower case delta on."""
    change = {c: lower(chr(c)) for c in POINTS if lower(chr(c)) != chr(c)}
    assert change.pop(0x130) == "i\u0307" and all(len(s) == 1 for s in change.values())
    rows = []
    for c, s in change.items():
        delta = ord(s) - c
        if rows and rows[-1][3] == delta:
            first, last, step, _ = rows[-1]
            if c - last in ((1, 2) if first == last else (step,)):
                rows[-1][1:3] = c, c - last
                continue
        rows.append([c, c, 1, delta])
    return rows


def combining_classes():
    """[first, last, class], from how the library orders a mark beside marks of known classes."""
    def above(x, y):                       # NFD swaps two marks when class(x) > class(y) > 0
        return nfd(x + y) == y + x != x + y

    def mark(s):                           # U+0334 is of the lowest class, 1, U+0345 of 240
        return nfd(s) == s and (above(s, "\u0334") or above("\u0345", s))

    known = {unicodedata.combining(chr(c)): chr(c) for c in reversed(POINTS)
             if unicodedata.combining(chr(c)) and mark(chr(c))}
    rows = []
    for c in POINTS:
        s = chr(c)
        if not mark(s):
            continue
        equal = [k for k, m in known.items() if not above(s, m) and not above(m, s)]
        assert len(equal) == 1, (hex(c), equal)
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == equal[0]:
            rows[-1][1] = c
        else:
            rows.append([c, c, equal[0]])
    return rows


def decompositions():
    """[point, first, second], one step; second is 0 for a singleton."""
    full = {c: nfd(chr(c)) for c in POINTS if c not in HANGUL and nfd(chr(c)) != chr(c)}
    whole = {s: c for c, s in full.items() if nfc(s) == chr(c)}
    rows = []
    for c, s in full.items():
        first = ord(s[0]) if len(s) <= 2 else whole.get(s[:-1])
        first = first or next(x for x in full if full[x] == s[:-1])
        rows.append([c, first, ord(s[-1]) if len(s) > 1 else 0])
    for c, first, second in rows:
        assert full.get(first, chr(first)) + (chr(second) if second else "") == full[c]
        assert second not in full and len(full[c]) <= DECOMPOSED_MOST
    return rows


def compositions(rows):
    """Which rows compose as well, in the order of their pairs."""
    pairs = [i for i, (c, a, b) in enumerate(rows) if b and nfc(chr(a) + chr(b)) == chr(c)]
    return sorted(pairs, key=lambda i: rows[i][1:])


def table(comment, declaration, rows):
    print(f"\n/* {comment} */\n{declaration} = {{")
    line = "   "
    for row in rows:
        item = "{" + ",".join(f"0x{v:x}" if v > 9 else str(v) for v in row) + "}" \
            if isinstance(row, list) else str(row)
        if len(line) + len(item) + 2 > 100:
            print(line)
            line = "   "
        line += f" {item},"
    print(line + "\n};")


def main():
    version = importlib.metadata.version("tokenizers")
    print(f"""/* unicode.h - what CLIP's tokenizer must know of Unicode.  By tests/unicode.py.
 *
 * Every code point was shown to the library of the reference, tokenizers {version}: its Oniguruma
 * for \\p{{L}} and \\p{{N}}, its Lowercase, its NFD and NFC; combining classes from the order it
 * gives to pairs of marks.  So these are its Unicode versions, not one version.  Rules do the rest:
 * Hangul syllables, U+0130 (lower case i, U+0307), white space (25 points, in tok.c).  Rows are
 * in the order of their first number. */
#ifndef UNICODE_H
#define UNICODE_H
#include <stdint.h>""")
    table("\\p{L}: first, last", "static const uint32_t letters[][2]", ranges(matching(r"\p{L}")))
    table("\\p{N}: first, last", "static const uint32_t numbers[][2]", ranges(matching(r"\p{N}")))
    table("lower case: first, last, step, what to add", "static const int32_t lowers[][4]",
          lower_ranges())
    table("canonical combining class: first, last, class", "static const uint32_t marks[][3]",
          combining_classes())
    rows = decompositions()
    print("\n/* code points that one becomes in NFD */")
    print(f"enum {{ DECOMPOSED_MOST = {DECOMPOSED_MOST} }};")
    table("canonical decomposition, one step: whole, first, second or 0",
          "static const uint32_t decompositions[][3]", rows)
    table("the rows above that compose too, in the order of first and second",
          "static const uint16_t compositions[]", compositions(rows))
    print("\n#endif")


main()
