"""List the licences of the locked packages that are installed (``licences.py requirements.lock``).

A licence that would bind whoever ships streamal (GPL, AGPL) is forbidden: exit 1. One that is not declared is shown.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

FORBIDDEN = re.compile(r"(?<!L)\bA?GPL|GNU (Affero )?General Public")


def licence(name: str) -> str:
    """Return what the package *name* declares."""
    about = metadata.metadata(name)
    classifiers = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if line.startswith("License")]
    text = about.get("License-Expression") or "; ".join(classifiers) or about.get("License") or "not declared"
    return text.splitlines()[0][:120]


def main(lock: Path) -> int:
    """Print a line for each package; return the exit code."""
    bad = 0
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), flags=re.MULTILINE):
        try:
            text = licence(name)
        except metadata.PackageNotFoundError:
            text = "not installed here"
        forbidden = FORBIDDEN.search(text) is not None
        bad |= forbidden
        mark = "\tFORBIDDEN" if forbidden else ""
        sys.stdout.write(f"{name}\t{version}\t{text}{mark}\n")
    return bad


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
