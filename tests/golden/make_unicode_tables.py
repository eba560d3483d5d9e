#!/usr/bin/env python3
"""Writes include/ssm/io/unicode_tables.hpp from Python's own copy of the Unicode Character Database.

Letters are general category L, numbers N; spaces have the property White_Space.
"""

import pathlib
import unicodedata

LAST = 0x10FFFF
SPACES = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
          0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def kind(code):
    if code in SPACES:
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(chr(code))[0])


def runs(value_of):
    """(first, last, value) of every run of codes with one value that is not None or 0."""
    found, begin, before = [], 0, None
    for code in range(LAST + 2):
        value = value_of(code) if code <= LAST else None
        if value != before:
            if before:
                found.append((begin, code - 1, before))
            begin, before = code, value
    return found


decomposed = []
for code in range(LAST + 1):
    text = unicodedata.decomposition(chr(code))
    if text and not text.startswith("<"):
        parts = [int(x, 16) for x in text.split()] + [0]
        composes = unicodedata.normalize("NFC", chr(code)) == chr(code) and parts[1] != 0
        decomposed.append((code, parts[0], parts[1], "true" if composes else "false"))


def lines(rows):
    line, text = " ", ""
    for row in rows:
        item = " {" + ", ".join(row) + "},"
        if len(line + item) > 100:
            text += line + "\n"
            line = " "
        line += item
    return text + line + "\n"


def hexed(*codes):
    return [f"0x{code:x}" for code in codes]


kinds = [hexed(a, b) + [f"CharKind::{value}"] for a, b, value in runs(kind)]
classes = [hexed(a, b) + [str(value)] for a, b, value in
           runs(lambda code: unicodedata.combining(chr(code)))]
pairs = [hexed(code, a, b) + [composes] for code, a, b, composes in decomposed]

header = f"""#pragma once

#include <array>
#include <cstdint>

/// Written by tests/golden/make_unicode_tables.py from Unicode {unicodedata.unidata_version}.
// clang-format off
namespace ssm::detail {{

enum class CharKind : std::uint8_t {{ other, letter, number, space }};

struct CharRange {{
  char32_t first, last;
  CharKind kind;
}};
inline constexpr std::array<CharRange, {len(kinds)}> char_ranges{{{{
{lines(kinds)}}}}};

/// Canonical combining classes other than 0.
struct CombiningRange {{
  char32_t first, last;
  std::uint8_t combining;
}};
inline constexpr std::array<CombiningRange, {len(classes)}> combining_ranges{{{{
{lines(classes)}}}}};

/// Canonical decompositions into one or two (second is 0 where it is one), but for Hangul, and
/// whether the two compose.
struct Decomposition {{
  char32_t code, first, second;
  bool composes;
}};
inline constexpr std::array<Decomposition, {len(pairs)}> decompositions{{{{
{lines(pairs)}}}}};

}}  // namespace ssm::detail
"""
path = pathlib.Path(__file__).parents[2] / "include/ssm/io/unicode_tables.hpp"
path.write_text(header)
