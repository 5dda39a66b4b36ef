# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The command `watch` as a real process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class Server:
    """`watch` on a free port."""

    def __init__(self, run, data):
        command = [
            sys.executable,
            "-m",
            "recipes.medgrpo",
            "watch",
            str(run),
            "--data",
            str(data),
            "--port",
            "0",
            "--every",
            "0.2",
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        self.events = None

    def get(self, place, **headers):
        return urllib.request.urlopen(urllib.request.Request(self.address + place, headers=headers), timeout=30)

    def piece(self, name, query=""):
        text = self.get(f"data/{name}.js{query}").read().decode()
        return json.loads(re.fullmatch(r'medgrpo\.put\("[\w-]+",(.*)\);\n', text, re.DOTALL)[1])

    def next_version(self):
        """The version that the next event tells."""
        self.events = self.events or self.get("events")
        while True:
            line = self.events.readline().decode()
            if line.startswith("data: "):
                return json.loads(line[6:])["version"]

    def stop(self):
        """End it as Ctrl-C does, once; returns what it said."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=300)
