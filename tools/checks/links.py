# SPDX-License-Identifier: Apache-2.0
"""Links between the pages lead somewhere."""
import re
from urllib.parse import unquote

RULE = "every relative link and every #section in a .md page exists, and is tracked"
CURE = "correct the path (relative to the page) or the section (its heading in lower case, with - for spaces)"

FENCE = re.compile(r"^(```|~~~).*?^\1[`~]*\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
INLINE = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s+<?(\S+?)>?(?:\s|$)", re.MULTILINE)
HTML = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]+)\"", re.IGNORECASE)
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
ANCHOR = re.compile(r"<[^>]*\b(?:id|name)=\"([^\"]+)\"")
SCHEME = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])  # keeps the line numbers


def sections(text):
    """The ids that GitHub gives to headings."""
    text = FENCE.sub(blank, text)
    found = set(ANCHOR.findall(text))
    counts = {}
    for title in HEADING.findall(text):
        title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        counts[slug] = counts.get(slug, -1) + 1
        found.add(f"{slug}-{counts[slug]}" if counts[slug] else slug)
    return found


def check(repository):
    problems = []
    files = set(repository.files)
    folders = {parent for path in files for parent in path.parents}
    for page in [f for f in repository.files if f.suffix == ".md"]:
        text = CODE.sub(blank, FENCE.sub(blank, repository.text(page)))
        for match in sorted((m for p in (INLINE, REFERENCE, HTML) for m in p.finditer(text)), key=lambda m: m.start(1)):
            link = match[1]
            where = f"{page}:{text.count(chr(10), 0, match.start(1)) + 1}: {link}"
            if SCHEME.match(link):
                continue
            name, _, section = link.partition("#")
            target = page
            if name:
                joined = (repository.root / page.parent / unquote(name)).resolve()
                if name.startswith("/") or not joined.is_relative_to(repository.root):
                    problems.append(f"{where}: leads out of the project")
                    continue
                target = joined.relative_to(repository.root)
            if target not in files and target not in folders:
                problems.append(f"{where}: there is no {target}")
            elif section and target.suffix == ".md" and unquote(section) not in sections(repository.text(target)):
                problems.append(f"{where}: {target} has no section #{section}")
    return problems
