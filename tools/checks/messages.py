# SPDX-License-Identifier: Apache-2.0
"""Every error message of the library has a test that expects it."""
import re
from collections import Counter

RULE = "every check(..) and every thrown error has a test that expects at least 12 characters of its message"
CURE = "add a CHECK_THROWS_WITH of the message, or name it in tools/checks/messages_untested.txt with a reason"

FOLDERS = ("core", "autograd", "nn", "moe")
UNTESTED = "tools/checks/messages_untested.txt"  # lines "file: beginning of the message  # reason"
LENGTH = 12
TOKENS = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\((?P<raw>.*?)\)\1"|"(?P<text>(?:[^"\\\n]|\\.)*)"|\'(?:[^\'\\\n]|\\.)\'',
                    re.DOTALL)
PYTHON = re.compile(r'#[^\n]*|[frb]*"""(?P<raw>.*?)"""|[frb]*"(?P<text>(?:[^"\\\n]|\\.)*)"'
                    r"|[frb]*'(?P<single>(?:[^'\\\n]|\\.)*)'", re.DOTALL)
# check_internal and throw_logic_error are missing on purpose: what they watch over can't happen.
CALLS = re.compile(r"(?<![\w:.>])(?:(?P<checks>check|refuse_unless)|fail|throw_(?!logic_error|built)\w+)\s*\("
                   r"|\bthrow\s+[\w:]+\s*[({]")
NOT_EXPECTED = re.compile(r"\b(?:TEST_CASE|SUBCASE|INFO|MESSAGE|CAPTURE|include)\s*\(?\s*$")
PLACE = re.compile(r"\{[^{}]*\}")


def unescape(text):
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t", "0": "\0"}.get(m[1], m[1]), text)


def literals(text, tokens=TOKENS):
    """(begin, end, value) of the string literals, neighbours joined; and the text with literals and comments blanked."""
    found, blank = [], list(text)
    for match in tokens.finditer(text):
        for i in range(match.start(), match.end()):
            blank[i] = " " if text[i] != "\n" else "\n"
        groups = match.groupdict()
        value = groups.get("raw")
        if value is None:
            value = groups.get("text") if groups.get("text") is not None else groups.get("single")
            value = None if value is None else unescape(value)
        if value is not None:
            found.append([match.start(), match.end(), value])
    blank = "".join(blank)
    joined = []
    for begin, end, value in found:
        if joined and not blank[joined[-1][1]:begin].strip():
            joined[-1][1:] = [end, joined[-1][2] + value]
        else:
            joined.append([begin, end, value])
    return joined, blank


def arguments(blank, opening):
    """Where the arguments of a call begin and end, `opening` being the place of its parenthesis."""
    depth, begin, parts = 0, opening + 1, []
    for i in range(opening, len(blank)):
        if blank[i] in "([{":
            depth += 1
        elif blank[i] in ")]}":
            depth -= 1
            if depth == 0:
                return parts + [(begin, i)]
        elif blank[i] == "," and depth == 1:
            parts.append((begin, i))
            begin = i + 1
    return parts


def passes_on(message):
    """True for a format that only wraps another message, like "safetensors: '{}': {}"; that one has a test."""
    return bool(PLACE.search(message)) and len(re.findall("[A-Za-z]", PLACE.sub("", message))) < LENGTH


def formats(text):
    """(line, format string) of every error that a source can throw."""
    found, blank = literals(text)
    result = []
    for call in CALLS.finditer(blank):
        parts = arguments(blank, call.end() - 1)
        if call["checks"]:
            parts = parts[1:2]
        inside = [value for begin, _, value in found if parts and parts[0][0] <= begin < parts[-1][1]]
        # the format itself; fmt::format's other arguments and the branches of a conditional come after it
        result += [(text.count("\n", 0, call.start()) + 1, value) for value in inside[:1] if not passes_on(value)]
    return result


def pieces(message):
    return [piece for piece in PLACE.split(message.replace("{{", "").replace("}}", "")) if piece]


def grams(text):
    return {text[i:i + LENGTH] for i in range(len(text) - LENGTH + 1)}


def windows(message):
    """Patterns of LENGTH characters of a message's own text that have a value among them: "row 'x' is empty"."""
    parts = PLACE.split(message.replace("{{", "{").replace("}}", "}"))
    symbols = [symbol for part in parts for symbol in [*part, None]][:-1]  # None: a value
    own = [i for i, symbol in enumerate(symbols) if symbol is not None]
    for first in range(len(own) - LENGTH + 1):
        window = symbols[own[first]:own[first + LENGTH - 1] + 1]
        if None in window:
            yield "".join("[^\n]{0,99}?" if symbol is None else re.escape(symbol) for symbol in window)


def expected_texts(repository):
    """The string literals of the tests, without names of test cases."""
    result = []
    for file in repository.files:
        if file.parts[0] != "tests" or file.suffix not in (".cpp", ".h", ".py"):
            continue
        text = repository.text(file)
        if file.suffix == ".py":
            result += [value for _, _, value in literals(text, PYTHON)[0]]
            continue
        found, blank = literals(text)
        result += [value for begin, _, value in found if not NOT_EXPECTED.search(blank[max(0, begin - 40):begin])]
    return result


def allowed(repository):
    path = repository.root / UNTESTED
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.split("  #")[0].rstrip() for line in lines if line.strip() and not line.startswith("#")]


def check(repository):
    messages = [(file, line, message) for file in repository.sources if file.parts[0] in FOLDERS
                for line, message in formats(repository.text(file))]
    texts = expected_texts(repository)
    expected = set().union(*(grams(text) for text in texts)) if texts else set()
    different = {message for _, _, message in messages}
    shared = Counter(gram for message in different for gram in set().union(*map(grams, pieces(message) or [""])))
    shared_windows = Counter(window for message in different for window in set(windows(message)))
    everything = "\n".join(text.replace("\n", " ") for text in texts)

    def is_tested(message):
        """By a part that no other message has; where there is none, by the whole."""
        own = {gram for piece in pieces(message) for gram in grams(piece) if shared[gram] == 1}
        patterns = [window for window in windows(message) if shared_windows[window] == 1]
        if not own and not patterns:
            patterns = ["[^\n]*?".join(map(re.escape, pieces(message)))]
        return bool(own & expected) or any(re.search(pattern, everything) for pattern in patterns)

    problems, waived = [], set()
    exceptions = allowed(repository)
    for file, line, message in messages:
        if is_tested(message):
            continue
        matching = [entry for entry in exceptions if f"{file}: {message}".startswith(entry)]
        waived.update(matching)
        if not matching:
            problems.append(f"{file}:{line}: no test expects \"{message}\"")
    problems += [f"{UNTESTED}: \"{entry}\" is tested or gone; remove the line" for entry in exceptions
                 if entry not in waived]
    return problems
