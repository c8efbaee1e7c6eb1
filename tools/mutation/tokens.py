# SPDX-License-Identifier: Apache-2.0
"""C++ as tokens and blocks: as much as finding places to change needs."""
import re
from dataclasses import dataclass, field

TOKEN = re.compile(r"""
    (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<directive>^[ \t]*\#[^\n]*(?:\\\n[^\n]*)*)
  | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<number>\.?\d(?:[eEpP][+-]|[\w.']|)*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<operator><<=|>>=|->\*|\.\.\.|::|->|\+\+|--|&&|\|\||<=|>=|==|!=|\+=|-=|\*=|/=|%=|<<|[-+*/%<>=!&|^~?:;,.(){}\[\]])
""", re.VERBOSE | re.MULTILINE | re.DOTALL)
KEYWORDS = {"return", "case", "else", "do", "throw", "template", "typename", "operator", "co_return", "const", "constexpr"}


@dataclass
class Token:
    kind: str
    text: str
    start: int
    end: int


def tokenize(text):
    return [Token(m.lastgroup, m[0], m.start(), m.end()) for m in TOKEN.finditer(text)]


@dataclass
class Block:
    """Braces: what stands before them, which tokens they enclose, the block around."""
    kind: str  # namespace, type, function or other
    header: str
    name: str
    comment: str  # just above the header
    open: int  # indices of tokens
    close: int = -1
    parent: "Block | None" = None
    children: list = field(default_factory=list)


def _classify(header):
    plain = re.sub(r"template\s*<(?:[^<>]|<[^<>]*>)*>", "", header).strip()
    if re.match(r"(inline\s+)?namespace\b", plain):
        return "namespace", plain.split()[-1]
    if m := re.match(r"(?:struct|class|union|enum(?:\s+class)?)\s+(\w+)[^()]*$", plain):
        return "type", m[1]
    if m := re.search(r"([\w~]+|operator\s*\(\)|operator\s*\S+)\s*\([^;]*\)\s*(?:const|noexcept|override|:[^;]*)?\s*$", plain):
        if not re.match(r"(if|for|while|switch|catch|else)\b", plain):
            first = re.match(r"[^(]*?([\w~]+|operator\s*\(\))\s*\(", plain)
            return "function", re.sub(r"\s", "", first[1] if first else m[1])
    return "other", ""


def blocks(tokens):
    """The outermost block, with all others below it."""
    top = Block("namespace", "", "", "", -1, len(tokens))
    current, start = top, 0  # start: the first token of the next header
    for i, token in enumerate(tokens):
        if token.kind in ("comment", "directive", "string"):
            continue
        if token.text == "{":
            parts = [t.text for t in tokens[start:i] if t.kind not in ("comment", "directive")]
            comment = " ".join(t.text for t in tokens[start:i] if t.kind == "comment")
            header = " ".join(parts)
            kind, name = _classify(header)
            if current.kind in ("function", "other"):
                kind = "other"
            block = Block(kind, header, name, comment, i, parent=current)
            current.children.append(block)
            current, start = block, i + 1
        elif token.text == "}":
            current.close = i
            current, start = current.parent or top, i + 1
        elif token.text == ";":
            start = i + 1
    return top
