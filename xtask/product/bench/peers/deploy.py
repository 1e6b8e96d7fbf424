# The benchmark's resources in the words of pyinfra. Started by the benchmark, beside resources.json.
import json
from io import StringIO
from os.path import dirname, join

from pyinfra import config, host
from pyinfra.operations import apt, files, server, systemd

config.SUDO = True
here = dirname(__file__)
with open(join(here, "resources.json")) as f:
    resources = json.load(f)[host.name]

for entry in resources:
    (kind, r), = entry.items()
    if kind == "hostname":
        server.hostname(hostname=r["name"])
    elif kind == "timezone":
        files.link(path="/etc/localtime", target="/usr/share/zoneinfo/" + r["name"], force=True, force_backup=False)
        files.put(src=StringIO(r["name"] + "\n"), dest="/etc/timezone", mode="644")
    elif kind == "line":
        if r.get("match"):
            files.line(path=r["path"], line=r["match"] + ".*", replace=r["line"])
        else:
            files.line(path=r["path"], line=r["line"])
    elif kind == "block":
        files.block(path=r["path"], content=r["content"].rstrip("\n"), try_prevent_shell_expansion=True)
    elif kind == "ini":
        setting = r["key"] + "=" + r["value"]
        files.line(path=r["path"], line="^#?" + r["key"] + "=.*", replace=setting)
    elif kind == "group":
        server.group(group=r["name"])
    elif kind == "user":
        server.user(user=r["name"], groups=r["groups"], shell=r["shell"], create_home=True)
    elif kind == "authorized_keys":
        server.user_authorized_keys(user=r["user"], public_keys=r["keys"])
    elif kind == "directory":
        files.directory(path=r["path"], mode=r["mode"], user=r["owner"], group=r["group"])
    elif kind == "file":
        files.put(src=StringIO(r["content"]), dest=r["path"], mode=r["mode"], user=r["owner"], group=r["group"])
    elif kind == "link":
        files.link(path=r["path"], target=r["target"])
    elif kind == "sysctl":
        server.sysctl(key=r["key"], value=r["value"], persist=True, persist_file=r["file"])
    elif kind == "package":
        apt.packages(packages=r["names"])
    elif kind == "unit":
        systemd.service(service=r["name"], enabled=True, running=True, daemon_reload=False)
    elif kind == "command":
        server.shell(commands=["test -e " + r["creates"] + " || " + r["run"]])
    else:
        raise ValueError("no words for " + kind)
