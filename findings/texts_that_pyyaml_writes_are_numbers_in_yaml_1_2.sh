#!/usr/bin/env bash
# PyYAML 6.0.3 writes a text without quotes where YAML 1.1 would not take it for a number. Read by YAML 1.2, as
# ruamel.yaml 0.19.1 does, some of these are numbers: "08" is 8, "0o17" is 15, "1e5" is 100000.0. Short hashes,
# seeds with leading zeros and part numbers look like that: a results file that one program of a study
# writes and another reads has other values in it, and neither says so. Other look-alikes are quoted.
# Seen: PyYAML gives back all twelve texts; ruamel.yaml gives back nine, and [8, 15, 100000.0].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyyaml==6.0.3 ruamel.yaml==0.19.1
"$folder/venv/bin/python" - <<'PY'
import ruamel.yaml
import yaml

texts = ["08", "0o17", "1e5", "0x1F", "1:30", "yes", "1_000", "012", "+1", "1.", "-.5e3", "0b1"]
written = yaml.safe_dump(texts)
assert yaml.safe_load(written) == texts
read = ruamel.yaml.YAML(typ="safe", pure=True).load(written)
changed = [(text, value) for text, value in zip(texts, read) if text != value]
print(changed)
assert changed == [("08", 8), ("0o17", 15), ("1e5", 100000.0)], changed
PY
