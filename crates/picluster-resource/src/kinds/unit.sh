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
# systemd forgets at a reload that a unit runs when a name of it that was gone (`disable` takes Alias= away) is back: what
# it knew of the absent name, dead, replaces what it knows of the unit. Seen with 252 to 257. The process lives on: sshd's
# holds the port, the next start fails and takes /run/sshd away, and nobody can log in any more; when the process ends,
# systemd itself may crash.
names_missing() { # enabling brings names back that systemd does not count to the unit
  nm=" $(systemctl show -p Names --value -- "$u") "
  for n in $(systemctl cat -- "$u" 2>/dev/null | sed -n 's/^Alias=//p'); do
    case $nm in *" $n "*) ;; *) return 0;; esac
  done
  return 1
}
enable_stopped() { # of a unit that does not run there is nothing to forget; sessions of sshd stay (KillMode=process)
  job stop
  es=0; systemctl enable -- "$u" || es=$?
  job start; settled
  [ "$es" = 0 ] || exit "$es"
}
not_forgotten() { # ends the script when the unit's process runs and systemd takes it for dead
  fi= fx=
  while IFS='=' read -r k v; do
    case $k in Id) fi=$v;; ExecStart) fx=${v#*path=}; fx=${fx%% *};; esac
  done <<END
$(systemctl show -p Id,ExecStart -- "$u")
END
  [ -n "$fx" ] || return 0
  for p in /proc/[0-9]*; do
    [ "$p/exe" -ef "$fx" ] && grep -q "/$fi\$" "$p/cgroup" && grep -q '^PPid:[[:space:]]*1$' "$p/status" || continue
    echo "systemd has lost sight of $u: process ${p#/proc/} runs, and systemd takes the unit for stopped. A start would fail, so nothing was done. Only a reboot of this node mends it." >&2
    exit 1
  done
}
look() { # what systemd says of it, in $v: one property a line, between newlines
  v=$nl$(systemctl show -p Type,ActiveState,ConditionResult -- "$u")$nl
}
settled() { # a plain process that dies at once counts as started at first
  look
  case $v in *"${nl}Type=simple$nl"*|*"${nl}Type=exec$nl"*|*"${nl}Type=idle$nl"*) sleep 0.5; look;; esac
  case $v in *"${nl}ActiveState=active$nl"*|*"${nl}ActiveState=reloading$nl"*|*"${nl}ActiveState=refreshing$nl"*) return 0;; esac
  case $v in
    *"${nl}ConditionResult=no$nl"*) echo "$u does not start: a Condition in its file is not met on this machine" >&2;;
    *) echo "$u was started and is not running" >&2;;
  esac
  say; exit 1
}
go() { # start|restart, and no wait until it is ready: the new process runs, or was tried
  ji=$(systemctl show -p InvocationID --value -- "$u"); jn=0
  systemctl --no-block "$1" -- "$u" || { say; exit 1; }
  while [ $jn -lt 150 ]; do
    case $(systemctl show -p InvocationID --value -- "$u") in ''|"$ji") ;; *)
      [ "$(systemctl show -p MainPID --value -- "$u")" = 0 ] || return 0
      case $(systemctl show -p SubState --value -- "$u") in auto-restart*|failed|dead) return 0;; esac;;
    esac
    sleep 0.2; jn=$((jn + 1))
  done
  echo "$u: $1 was not begun after half a minute" >&2; say; exit 1
}
