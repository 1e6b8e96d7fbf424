#!/usr/bin/env python3
"""image.py OUT.tar NAME:TAG PATH=PROGRAM...: an image of one layer for `ctr images import`, with programs and the libraries
they need. The first one is what it runs where nobody says otherwise."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

out, name, *programs = sys.argv[1:]
layer = io.BytesIO()
tar = tarfile.open(fileobj=layer, mode="w")
there = set()


def directory(path):
    for i in range(1, path.count("/") + 2):
        part = "/".join(path.split("/")[:i])
        if part and part not in there:
            there.add(part)
            entry = tarfile.TarInfo(part)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)


def program(path, source):
    path = path.lstrip("/")
    if path in there:
        return
    directory(os.path.dirname(path))
    there.add(path)
    with open(source, "rb") as file:
        data = file.read()
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(data), 0o755
    tar.addfile(entry, io.BytesIO(data))


def libraries(source):
    found = subprocess.run(["ldd", source], capture_output=True, text=True)
    for line in found.stdout.splitlines() if found.returncode == 0 else []:
        path = line.split("=>")[-1].strip().split(" ")[0]
        if path.startswith("/"):
            program(path, os.path.realpath(path))


for path in ["tmp", "etc", "run", "var", "proc", "sys", "dev"]:
    directory(path)
for one in programs:
    path, source = one.split("=", 1)
    program(path, source)
    libraries(source)
tar.close()

digest = hashlib.sha256(layer.getvalue()).hexdigest()
config = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/" + programs[0].split("=", 1)[0].lstrip("/")],
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
    }
).encode()
config_name = hashlib.sha256(config).hexdigest() + ".json"
manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
with tarfile.open(out, "w") as image:
    for path, data in [
        (config_name, config),
        ("layer.tar", layer.getvalue()),
        ("manifest.json", json.dumps(manifest).encode()),
    ]:
        entry = tarfile.TarInfo(path)
        entry.size = len(data)
        image.addfile(entry, io.BytesIO(data))
