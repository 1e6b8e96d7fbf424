to=$d/db/snapshots/$name new=$d/db/snapshots/.$name.new
mkdir -p "$d/db/snapshots"; chmod 0700 "$d/db/snapshots"
rm -rf "$new"; mkdir -m 0700 "$new"
set -- "$d"/db/state.db* "$d/token" "$d/tls" "$d/cred"
need=$(du -skc "$@" 2>/dev/null | tail -n 1 | cut -f 1)
have=$(df -Pk "$d/db/snapshots" | awk 'NR == 2 { print $4 }')
if [ "$have" -lt $((need + need / 4 + 51200)) ]; then
  rm -rf "$new"
  echo "a copy takes $((need / 1024)) MiB, and there are $((have / 1024)) MiB free at $d/db/snapshots: make room there; nothing was stopped" >&2
  exit 1
fi
case $(systemctl show -p ActiveState --value -- "$unit") in active|activating|reloading) runs=yes;; *) runs=;; esac
# A copy of a file that is written to is none. Containers go on running: only k3s itself stops. It does not stay so, whatever
# becomes of this script: the trap is for its end, the timer for a kill.
back=picluster-start-${unit%.service}
# A run that was killed has left it stopped, and the timer that starts it.
if systemctl -q is-active -- "$back.timer"; then runs=yes; fi
again() {
  systemctl start --no-block -- "$unit"
  systemctl stop -- "$back.timer" 2>/dev/null || :
}
if [ -n "$runs" ]; then
  systemctl stop -- "$back.timer" 2>/dev/null || :
  systemd-run -q --collect --unit="$back" --on-active=900 systemctl start --no-block -- "$unit"
  trap again EXIT; trap 'exit 1' INT TERM
  systemctl stop -- "$unit"
fi
wrong=
for f; do [ ! -e "$f" ] || cp -a -- "$f" "$new/" || wrong=yes; done
# Somebody may have started it in between.
case $(systemctl show -p ActiveState --value -- "$unit") in inactive|failed) ;; *) wrong=yes;; esac
if [ -n "$runs" ]; then trap - EXIT; again; fi
[ -z "$wrong" ] || { rm -rf "$new"; echo "$d could not be copied" >&2; exit 1; }
sync
rm -rf "$to"; mv "$new" "$to"; touch "$to"
cd "$d/db/snapshots"
n=0
for old in $(ls -1dt picluster-*/ 2>/dev/null); do
  n=$((n + 1))
  [ "$n" -le "$keep" ] || rm -rf -- "$old"
done
