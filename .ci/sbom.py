"""Print the software bill of materials: what is installed and locked, as CycloneDX 1.6 in JSON. ``make sbom`` writes ``sbom.json``.

One component for each locked distribution that is installed here, with its version, licence and the SHA-256 of its files in
``requirements.lock``. Nothing is fetched; equal environments give equal files.
"""

import json
import re
import sys
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def locked() -> dict[str, list[str]]:
    """SHA-256 of the files of each locked distribution, by canonical name."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    pinned = {entry.partition("\\")[0]: entry for entry in entries if not entry.startswith("#")}
    return {canonicalize_name(Requirement(name).name): re.findall(r"sha256:([0-9a-f]{64})", entry) for name, entry in pinned.items()}


def component(name: str, hashes: list[str]) -> dict[str, Any] | None:
    """A distribution as CycloneDX has it; None where this system needs none."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    about = found.metadata
    purl = f"pkg:pypi/{name}@{found.version}"
    entry: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": found.version, "purl": purl}
    if licence := licence_of(about):
        entry["licenses"] = [licence]
    if hashes:
        # of one file of several for different systems: all are named as references
        entry["externalReferences"] = [
            {"type": "distribution", "url": purl, "hashes": [{"alg": "SHA-256", "content": digest} for digest in hashes]}
        ]
    return entry


def licence_of(about: metadata.PackageMetadata) -> dict[str, Any] | None:
    """The licence that a distribution states: an SPDX expression, else its classifiers, else the first line of its text."""
    if expression := about.get("License-Expression"):
        return {"expression": expression}
    classified = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or () if text.startswith("License ::")]
    text = (about.get("License") or "").strip().partition("\n")[0][:100]
    name = " or ".join(classified) or text
    return {"license": {"name": name}} if name else None


def main() -> None:
    """Write the bill to the standard output."""
    own = metadata.distribution("cm2")
    found = [entry for name, hashes in sorted(locked().items()) if (entry := component(name, hashes))]
    bill: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "cm2", "name": "cm2", "version": own.version}},
        "components": found,
        "dependencies": [{"ref": "cm2", "dependsOn": [entry["bom-ref"] for entry in found]}],
    }
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill))}"
    sys.stdout.write(json.dumps(bill, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
