"""Compares the JavaScript that ships with the package with npm's of that version: `python tools/vendored.py` (needs npm)."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "src" / "hornbeam" / "inspect" / "page"


def main() -> int:
    known = json.loads((PAGE / "vendored.json").read_text(encoding="utf-8"))
    name = f"{known['package']}@{known['version']}"
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", name, "--pack-destination", folder], check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            for file, facts in known["files"].items():
                member = archive.extractfile(f"package/{facts['from']}")
                theirs = hashlib.sha256(member.read() if member else b"").hexdigest()
                ours = hashlib.sha256((PAGE / file).read_bytes()).hexdigest()
                same = theirs == ours == facts["sha256"]
                differing += not same
                print(f"{file}: {'as in' if same else f'DIFFERS (here {ours}, there {theirs}) from'} {name}")
    return min(differing, 1)


if __name__ == "__main__":
    sys.exit(main())
