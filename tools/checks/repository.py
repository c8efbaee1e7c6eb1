# SPDX-License-Identifier: Apache-2.0
"""The files of the project, as the checks see them."""
import re
import subprocess
from pathlib import Path

CPP = {".h", ".cpp", ".cu", ".cuh"}
SCRIPTS = {".py", ".sh", ".cmake"}
NOT_OURS = {".git", "build", "data", "runs", ".venv", "__pycache__"}  # as in .gitignore
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


class Repository:
    def __init__(self, root, build=None):
        self.root = Path(root).resolve()
        self.build = Path(build) if build else self.root / "build/cpu"
        self.files = sorted(self._list())  # relative to root; tracked ones and new ones that git does not ignore
        self.sources = [f for f in self.files if f.suffix in CPP]
        self.scripts = [f for f in self.files
                        if f.suffix in SCRIPTS or f.name == "CMakeLists.txt" or self._has_shebang(f)]

    def _list(self):
        git = ["git", "-c", "safe.directory=*", "-C", str(self.root)]
        try:
            top = subprocess.run(git + ["rev-parse", "--show-toplevel"], capture_output=True, text=True)
            if top.returncode == 0 and Path(top.stdout.strip()) == self.root:
                listed = subprocess.run(git + ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                        capture_output=True, text=True, check=True).stdout
                return {Path(name) for name in listed.split("\0") if name and (self.root / name).is_file()}
        except FileNotFoundError:
            pass  # no git here: an unpacked archive has no other files than the tracked ones
        found = {path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file()}
        return {path for path in found if not NOT_OURS & set(path.parts)}

    def _has_shebang(self, path):
        if path.suffix:
            return False
        with open(self.root / path, "rb") as file:
            return file.read(2) == b"#!"

    def text(self, path):
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    def includes(self, path):
        """(line, quoted or not, name) of every #include."""
        text = self.text(path)
        return [(text.count("\n", 0, m.start(2)) + 1, m[1] == '"', m[2]) for m in INCLUDE.finditer(text)]
