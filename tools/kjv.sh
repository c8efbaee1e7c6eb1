#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes data/kjv.txt: the King James Bible, one verse a line, without references. The text is in the public domain;
# it comes from Debian's package bible-kjv.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/kjv.sh

Writes data/kjv.txt (4.1 MB, 31,102 lines, one verse each) unless it is there. Installs the package bible-kjv if needed.
END
}

case ${1:-} in
  '') ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; echo "kjv: unknown option $1" >&2; exit 1 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
text=data/kjv.txt

# Says what is wrong with a file, or nothing. Releases may differ in a letter, not in the number of verses.
problem_of() {
  local lines bytes
  lines=$(wc -l <"$1")
  bytes=$(wc -c <"$1")
  if ((lines != 31102)); then
    echo "it has $lines lines and not 31,102"
  elif ((bytes < 4100000 || bytes > 4200000)); then
    echo "it has $bytes bytes and not about 4,137,850"
  elif [[ $(head -n 1 "$1") != "In the beginning God created the heaven and the earth." ]]; then
    echo "its first line is not the first verse: $(head -n 1 "$1")"
  elif grep -qE '^[1-3]?[A-Z][A-Za-z]*[0-9]+:[0-9]+ ' "$1"; then
    echo "some lines still begin with a reference"
  fi
}

if [[ -e $text ]]; then
  problem=$(problem_of "$text")
  [[ -z $problem ]] && exit 0
  echo "kjv: $text is not the whole text: $problem. Delete it to have it made anew." >&2
  exit 1
fi

tools/setup.sh --demo
if ! command -v bible >/dev/null; then
  echo "kjv: the program 'bible' is missing (Debian's package bible-kjv)." >&2
  exit 1
fi
mkdir -p data
part=$(mktemp data/kjv.XXXXXX)
trap 'rm -f "$part"' EXIT
# -f switches pretty-printing off: "Ge1:1 In the beginning ...", one verse a line.
if ! bible -f gen1:1-rev22:21 </dev/null | sed -E 's/^[1-3]?[A-Za-z]+[0-9]+:[0-9]+ //' >"$part"; then
  echo "kjv: 'bible -f gen1:1-rev22:21' failed; is the package bible-kjv-text complete?" >&2
  exit 1
fi
problem=$(problem_of "$part")
if [[ -n $problem ]]; then
  echo "kjv: what 'bible -f gen1:1-rev22:21' printed is not the whole text: $problem." >&2
  exit 1
fi
chmod 644 "$part"
mv "$part" "$text"
echo "kjv: wrote $text ($(wc -c <"$text") bytes)"
