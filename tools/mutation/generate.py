# SPDX-License-Identifier: Apache-2.0
"""Finds the hand-written backward rules in the sources and every place in them that a mutant changes."""
import re
from dataclasses import dataclass

from mutation.tokens import KEYWORDS, blocks, tokenize

# Where backward rules live.
FOLDERS = ("core/kernels/", "autograd/ops/", "moe/")
FILES = ("core/attention_backward.cpp",)

# A kernel is a backward one by its name, or by a formula for a gradient just above it: "dx = ..", "dY[b, i] = ..".
BACKWARD_NAME = re.compile(r"[Bb]ackward|[Gg]radient|scatter_add")
GRADIENT_FORMULA = re.compile(r"(?<![\w.])d([A-Za-z]\w*)(?:\s?\[[^\]]*\])?\s*(?:\(\+\))?=")
# The derivatives of an elementwise op, and what gives or adds a gradient in a .cpp.
DERIVATIVES = {"d", "dx", "dy"}
# The name of the gradients of a rule's outputs.
OUTPUT_GRADIENTS = re.compile(r"span < const Array > (\w+)")
GRADS_PARAMETER = re.compile(r"\bGrads\s*(?:::\s*Target\s*)?&|\bGrads\s*::\s*Target\b")

OPERATORS = {"+": ("Add", "-"), "-": ("Subtract", "+"), "*": ("Multiply", "/"), "/": ("Divide", "*"),
             "<": ("Less", "<="), ">": ("Greater", ">="), "<=": ("LessEqual", "<"), ">=": ("GreaterEqual", ">"),
             "==": ("Equal", "!="), "!=": ("NotEqual", "==")}
SPACE = " "
# Numbers of one file don't depend on what is in others, so that they aren't compiled again.
MUTANTS_OF_A_FILE, REGIONS_OF_A_FILE = 1000, 32


@dataclass
class Mutant:
    number: int
    path: str
    line: int
    region: int
    name: str  # Struct::function
    kind: str  # sign, factor, index or bound
    change: str  # "- -> +"
    key: str  # path, name and source line with the change marked; stays when lines move


@dataclass
class Region:
    number: int
    path: str
    name: str


def is_source(path):
    return path in FILES or path.startswith(FOLDERS) and path.endswith((".h", ".cpp"))


def name_of(block):
    names = []
    while block is not None:
        if block.name and block.kind in ("type", "function"):
            names.append(block.name)
        block = block.parent
    return "::".join(reversed(names))


def backward_blocks(path, top, only_backward=frozenset()):
    """The outermost function bodies and lambdas that belong to a backward rule; `only_backward` names more functions
    and kernels that do."""
    found = []

    def visit(block, in_backward_type):
        for child in block.children:
            if child.kind == "type":
                visit(child, in_backward_type or bool(BACKWARD_NAME.search(child.name)) or child.name in only_backward
                      or "/kernels/" in path and gives_a_gradient(child.comment))
                continue
            if child.kind == "namespace":
                visit(child, False)
                continue
            if "constexpr" in child.header.split():
                continue
            function = child.kind == "function"
            if (function and (in_backward_type or path in FILES or BACKWARD_NAME.search(child.name)
                              or "/kernels/" in path and child.name in DERIVATIVES or child.name in only_backward)
                    or GRADS_PARAMETER.search(child.header)):
                found.append(child)
            else:
                visit(child, in_backward_type)

    visit(top, False)
    return found


def gives_a_gradient(comment):
    """True for "dx = .." and "dY[b, i] = coefficient Y[b, i]", but not for "distance = .."."""
    return any(len(m[1]) == 1 or re.search(rf"\b{m[1]}\b", comment) for m in GRADIENT_FORMULA.finditer(comment))


def functions(block):
    for child in block.children:
        if child.kind == "function":
            yield child
        elif child.kind == "namespace":
            yield from functions(child)


def used_by_backward_only(parsed):
    """Names of functions in a .cpp, and of kernels, that nothing but backward rules mentions."""
    mentions = []  # (name, path, token)
    for path, (tokens, top) in parsed.items():
        if not path.endswith(".cpp"):
            continue
        defined = {f.name: f for f in functions(top)}
        for i, token in enumerate(tokens):
            following = next_code(tokens, i)
            if token.kind != "word" or following is None:
                continue
            own = defined.get(token.text)
            is_call = following.text == "(" and own is not None and not (
                i < own.open and all(t.text not in ("{", "}", ";") for t in tokens[i:own.open]))
            if is_call or following.text == "<" and token.text[0].isupper():
                mentions.append((token.text, path, i))
    names = set()
    while True:
        rules = {path: backward_blocks(path, top, names) for path, (_, top) in parsed.items()}
        inside, outside = set(), set()
        for name, path, i in mentions:
            (inside if any(b.open < i < b.close for b in rules[path]) else outside).add(name)
        if not inside - outside - names:
            return names
        names |= inside - outside


def built_with_cuda_only(tokens):
    """Token indices of what the CPU's build leaves out."""
    result, depth = set(), 0  # depth: of conditionals, counted from one that asks for CUDA
    for i, token in enumerate(tokens):
        words = token.kind == "directive" and token.text.lstrip(" \t#").split() or [""]
        if depth:
            depth += words[0].startswith("if") - (words[0] == "endif" or words[0] in ("else", "elif") and depth == 1)
            result.add(i)
        elif words[0] in ("if", "ifdef") and "MOXIE_CUDA" in token.text and "!defined(MOXIE_CUDA)" not in token.text:
            depth = 1
    return result


def skipped(tokens, first, last):
    """Token indices that stay as they are: constant expressions, heads of loops under OpenMP, checks of arguments, and the
    last argument of for_rows, which only says how much work a row is."""
    result = set()
    i = first
    while i < last:
        token = tokens[i]
        if token.text in ("constexpr", "static_assert", "using", "case", "template"):
            # up to the end of the declaration, or of the condition of an `if constexpr`
            stop, depth = i, 0
            while stop < last:
                text = tokens[stop].text
                depth += (text == "(") - (text == ")")
                if text in (";", "{") and depth <= 0 or text == ")" and depth == 0 and tokens[i - 1].text == "if":
                    break
                stop += 1
            result.update(range(i, stop + 1))
            i = stop
        elif token.kind == "directive" and "omp" in token.text or token.text in ("check", "check_internal"):
            stop, depth = i + 1, 0
            while stop < last:
                text = tokens[stop].text
                depth += (text == "(") - (text == ")")
                if text == ")" and depth == 0:
                    break
                stop += 1
            result.update(range(i, stop + 1))
            i = stop
        elif token.text == "for_rows":
            commas, stop, depth = [], i + 1, 0
            while stop < last:
                text = tokens[stop].text
                depth += (text in "([{") - (text in ")]}")
                if text == "," and depth == 1:
                    commas.append(stop)
                if depth == 0:
                    break
                stop += 1
            if len(commas) == 3:
                result.update(range(commas[-1], stop + 1))
        i += 1
    return result


def previous_code(tokens, i):
    i -= 1
    while i >= 0 and tokens[i].kind in ("comment", "directive"):
        i -= 1
    return tokens[i] if i >= 0 else None


def next_code(tokens, i):
    i += 1
    while i < len(tokens) and tokens[i].kind in ("comment", "directive"):
        i += 1
    return tokens[i] if i < len(tokens) else None


def ends_operand(token):
    return token is not None and (token.kind == "number" or token.text in (")", "]", "}")
                                  or token.kind == "word" and token.text not in KEYWORDS)


def other_number(text):
    """(changed literal, kind) of a literal."""
    if re.search(r"[.eE]", text) and not text.lower().startswith("0x"):
        plain = re.sub(r"[fF]$", "", text).replace("'", "")
        return ("1.0" if float(plain) == 0 else f"(2 * {text})"), "factor"
    return f"({text} + 1)", "index"


def change_at(tokens, i, text):
    """(replacement of the token with @ for the mutant's number, change, kind), or None."""
    token = tokens[i]
    before, after = text[token.start - 1], text[token.end:token.end + 1]
    previous, following = previous_code(tokens, i), next_code(tokens, i)
    if token.text in OPERATORS and before.isspace() and after.isspace() and ends_operand(previous):
        name, other = OPERATORS[token.text]
        kind = "sign" if token.text in "+-" else "factor" if token.text in "*/" else "bound"
        return f"{token.text} moxie::mutation::{name}{{@}} {token.text}", f"{token.text} -> {other}", kind
    if token.text == "-" and not after.isspace() and not ends_operand(previous):
        return "moxie::mutation::Minus{@} ->* ", "-x -> x", "sign"
    if token.text in ("+=", "-="):
        return f"{token.text} moxie::mutation::Sign{{@}} =", f"{token.text} x -> {token.text} -x", "sign"
    if token.text == "*=":
        return f"{token.text} moxie::mutation::Inverse{{@}} =", "*= x -> *= 1 / x", "factor"
    if token.kind == "number":
        if before in "<." or following.text == ">" or previous.text == "<" and not before.isspace():
            return None
        other, kind = other_number(token.text)
        if previous.text == "{":
            return (f"moxie::mutation::Number{{@, {token.text}, {other}}}"), f"{token.text} -> {other}", kind
        return f"(moxie::mutation::active == @ ? {other} : {token.text})", f"{token.text} -> {other}", kind
    if token.text in ("true", "false") and before != "<" and following.text != ">":
        other = "false" if token.text == "true" else "true"
        return f"(moxie::mutation::active == @ ? {other} : {token.text})", f"{token.text} -> {other}", "sign"
    return None


def is_minimum(tokens, i):
    """True for the comparison of `a < b ? a : b` and its kin, where a tie gives the same either way."""
    def text_of(first, last):
        return " ".join(t.text for t in tokens[first:last] if t.kind not in ("comment", "directive"))

    def reach(start, step, ends):
        """The next token of `ends`, or the bracket that closes what the walk began in."""
        inwards, outwards = ("([{", ")]}") if step > 0 else (")]}", "([{")
        depth = 0
        while 0 <= start < len(tokens):
            text = tokens[start].text
            if depth == 0 and (text in ends or text in outwards):
                return start
            depth += (text in inwards) - (text in outwards)
            start += step
        return start

    left = reach(i - 1, -1, ("=", ",", "?", ":", "return", ";"))
    question = reach(i + 1, 1, ("?", ";", ","))
    if question >= len(tokens) or tokens[question].text != "?":
        return False
    colon = reach(question + 1, 1, (":", ";"))
    end = reach(colon + 1, 1, (",", ";", "<", ">", "?"))
    sides = {text_of(left + 1, i), text_of(i + 1, question)}
    return len(sides) == 2 and {text_of(question + 1, colon), text_of(colon + 1, end)} == sides


def generate(sources, left_out=frozenset()):
    """sources: text by path. Gives (text by path with all mutants in it, regions, mutants); those whose key is in
    left_out are not made."""
    regions, mutants, changed, seen = [], [], {}, {}
    parsed = {}
    for path in filter(is_source, sources):
        tokens = tokenize(sources[path])
        parsed[path] = tokens, blocks(tokens)
    only_backward = used_by_backward_only(parsed)
    for file_number, path in enumerate(sorted(path for path in sources if is_source(path))):
        text = sources[path]
        tokens, top = parsed[path]
        edits = []
        cuda = built_with_cuda_only(tokens)
        for count, block in enumerate(backward_blocks(path, top, only_backward)):
            region = Region(file_number * REGIONS_OF_A_FILE + count, path, name_of(block) or "backward")
            outputs = OUTPUT_GRADIENTS.search(block.header)
            keep = cuda | skipped(tokens, block.open, block.close)
            for i in range(block.open + 1, block.close):
                if i in keep or tokens[i].kind in ("comment", "directive", "string"):
                    continue
                found = change_at(tokens, i, text)
                if found is None or outputs and tokens[i - 2].text == outputs[1] and tokens[i].text == "0":
                    continue  # dy[1] isn't a rule for dy
                token = tokens[i]
                if found[2] == "bound" and is_minimum(tokens, i):
                    continue
                line_start, line_end = text.rfind("\n", 0, token.start) + 1, text.find("\n", token.end)
                marked = (text[line_start:token.start] + "<<" + token.text + ">>" + text[token.end:line_end]).strip()
                key = f"{path} | {region.name} | {SPACE.join(marked.split())}"
                seen[key] = seen.get(key, 0) + 1
                if seen[key] > 1:
                    key += f" #{seen[key]}"
                if key in left_out:
                    continue
                number = file_number * MUTANTS_OF_A_FILE + len(edits) + 1
                mutants.append(Mutant(number, path, text.count("\n", 0, token.start) + 1, region.number, region.name,
                                      found[2], found[1], key))
                edits.append((token.start, token.end, found[0].replace("@", str(number))))
            if mutants and mutants[-1].region == region.number:
                regions.append(region)
                at = tokens[block.open].end
                edits.append((at, at, f" moxie::mutation::reach({region.number});"))
        if edits:
            changed[path] = apply(text, edits)
    return changed, regions, mutants


def apply(text, edits):
    """The text with the edits made and the header included; lines keep their numbers."""
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    # Before the first include, on the same line.
    at = text.index("#include")
    line_end = text.index("\n", at)
    return text[:line_end + 1] + '#include "core/mutation.h"\n' + f"#line {text.count(chr(10), 0, line_end) + 2}\n" + text[line_end + 1:]
