#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints a header with its plain comments made Doxygen's: what stands above a declaration or behind a member is its
documentation, and what follows the licence line is the file's."""
import re
import sys

COMMENT = re.compile(r"^(\s*)//(?!/)(.*)$")
TRAILING = re.compile(r"^(\s*[^\s/}#][^{}]*?[;,\w)])(\s+)// (.*)$")
CODE = re.compile(r"(`[^`]*`)")


def escaped(text):
    """The words as they stand: nothing in them is a command or a tag; `code` stays code."""
    parts = CODE.split(text)
    return "".join(p if p.startswith("`") and len(p) > 1 else re.sub(r"([\\@<>#&%*_|~])", r"\\\1", p) for p in parts)


def filtered(lines):
    quoted = False  # in an indented passage, shown as it is
    hidden = False  # in a formatter of fmt, which is nothing to call
    for number, line in enumerate(lines):
        if number == 0 and "SPDX-License-Identifier" in line:
            yield "/// @file"
            continue
        if line.startswith("template <> struct fmt::formatter"):
            hidden = True
            yield "/// @cond"
        comment = COMMENT.match(line)
        indented = bool(comment) and comment[2].startswith("   ")
        if quoted != indented:
            yield "///"
            quoted = indented
        trailing = None if comment else TRAILING.match(line)
        if indented:
            yield "///  " + comment[2]
        elif comment:
            yield f"{comment[1]}///{escaped(comment[2])}"
        elif trailing and trailing[1].count('"') % 2 == 0:
            yield f"{trailing[1]}{trailing[2]}///< {escaped(trailing[3])}"
        else:
            yield line
            if hidden and line == "};":
                hidden = False
                yield "/// @endcond"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print("\n".join(filtered(file.read().split("\n"))), end="")
