say() { # what systemd knows about a unit that did not do as told
  systemctl show -p ActiveState,SubState,Result,StatusText -- "$u" | tr '\n' ' ' >&2; echo >&2
  journalctl -u "$u" -n 8 --no-pager -q -o cat >&2 2>/dev/null || :
}
job() { # start|stop|restart|reload, with a bound that a unit without one of its own cannot escape
  js=0; timeout 300 systemctl "$1" -- "$u" || js=$?
  [ "$js" != 0 ] || return 0
  [ "$js" != 124 ] || echo "$u: $1 was not done after five minutes" >&2
  say; exit 1
}
settled() { # a plain process that dies at once counts as started at first
  case $(systemctl show -p Type --value -- "$u") in simple|exec|idle) sleep 0.5;; esac
  case $(systemctl show -p ActiveState --value -- "$u") in active|reloading|refreshing) return 0;; esac
  case $(systemctl show -p ConditionResult --value -- "$u") in
    no) echo "$u does not start: a Condition in its file is not met on this machine" >&2;;
    *) echo "$u was started and is not running" >&2;;
  esac
  say; exit 1
}
case $(systemctl show -p NeedDaemonReload --value -- "$u") in yes) systemctl daemon-reload;; esac
