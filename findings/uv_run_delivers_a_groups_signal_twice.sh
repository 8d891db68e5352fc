#!/usr/bin/env bash
# `uv run` of uv 0.13.9: a signal that goes to the whole process group (a closed terminal, Ctrl-C, a job
# scheduler that ends a step, systemd) arrives at the command twice, since uv, which is in the group, passes on
# what it gets: SIGTERM and SIGHUP at once, SIGINT after a fifth of a second. A signal that goes to uv alone arrives
# once. So a program for which one signal means "save and stop" and a second one "stop at once", as training
# loops have it, stops at once under `uv run` and not without it; a handler that closes a file closes it twice.
# Seen: "TERM to the group: 2, to uv alone: 1", the same of HUP and INT.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uv==0.13.9
cat >"$folder/count.py" <<'PY'
import signal
import sys
import time

seen = []
for name in ("TERM", "HUP", "INT"):
    signal.signal(getattr(signal, f"SIG{name}"), lambda number, _: seen.append(number))
print("ready", flush=True)
end = time.monotonic() + 30
while not seen and time.monotonic() < end:
    time.sleep(0.02)
end = time.monotonic() + 1.5  # for those that come later
while time.monotonic() < end:
    time.sleep(0.02)
print(len(seen), flush=True)
PY
cat >"$folder/send.py" <<'PY'
import os
import signal
import subprocess
import sys

uv, python, script = sys.argv[1:]
for name in ("TERM", "HUP", "INT"):
    counts = []
    for to_group in (True, False):
        command = [uv, "run", "--no-project", "--offline", "--python", python, "python", script]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert child.stdout.readline() == "ready\n"
        send = os.killpg if to_group else os.kill
        send(child.pid, getattr(signal, f"SIG{name}"))
        counts.append(int(child.stdout.readline()))
        child.wait()
    print(f"{name} to the group: {counts[0]}, to uv alone: {counts[1]}")
    assert counts == [2, 1], (name, counts)
PY
HOME=$folder "$folder/venv/bin/python" "$folder/send.py" "$folder/venv/bin/uv" "$folder/venv/bin/python" "$folder/count.py"
