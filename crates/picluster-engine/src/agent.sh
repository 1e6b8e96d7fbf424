# The node-side half of a session, loaded once into the shell that reads the controller's lines.
# $R: directory for what lives as long as one step. $L: the lock file. Both are set before this.
reply() { printf '@%s %s %s\n%s' "$1" "$2" "${#3}" "$3"; }
# What cannot be mended here is said in one frame; then this shell is gone, so that nothing that is
# still on its way can be taken for a command.
give_up() { reply 22 1 "$1"; exit 1; }
# Read-only questions. A subshell: whatever they define or break stays inside.
probe() { ( eval "$1" ) </dev/null; }
receive() { # SCRIPT_LENGTH PAYLOAD_LENGTH: script to $s, payload behind fd 8, nothing left on disk
  mkdir -p "$R" && f=$(mktemp "$R/.in.XXXXXXXXXX") || give_up "cannot write below $R"
  # The payload comes first and both are read in one go: some `head`s read more than they print,
  # and nothing follows before this message is answered.
  n=$(($1 + $2))
  head -c "$n" > "$f" || { rm -f "$f"; give_up "no room for $2 bytes below $R"; }
  # Cut off on the way: half a payload must never reach an operation.
  [ "$(wc -c < "$f")" -eq "$n" ] || { rm -f "$f"; exit 3; }
  s=$(tail -c "$1" "$f"; echo x); s=${s%x}
  truncate -s "$2" "$f" && exec 8<"$f"
  rm -f "$f"
}
op() { # BEFORE SCRIPT AFTER: each in a subshell that stops at the first error; status to $st
  # Output goes to a file that has no name any more: a chatty program can neither block on a
  # controller that is gone nor be killed by its absence, and nothing has to be cleaned up.
  mkdir -p "$R" && f=$(mktemp "$R/.out.XXXXXXXXXX") || give_up "cannot write below $R"
  exec 9>>"$f" 7<"$f"; rm -f "$f"
  # Never in the condition of an `if` or beside `&&`: there `set -e` is without effect.
  ( set -eu; eval "$1" ) </dev/null >&9 2>&1 7<&- 8<&- 9>&-
  st=$?
  if [ "$st" = 0 ]; then
    ( set -eu; eval "$2" ) <&8 >&9 2>&1 7<&- 8<&- 9>&-
    st=$?
  fi
  if [ "$st" = 0 ]; then
    ( set -eu; eval "$3" ) </dev/null >&9 2>&1 7<&- 8<&- 9>&-
    st=$?
  fi
  o=x
  [ "$st" = 0 ] || o=$(tail -c 65536 <&7 | tr -d '\000'; echo x)
  exec 7<&- 8</dev/null 9>&-
  reply 20 "$st" "${o%x}"
}
lock() { # OWNER, one line: takes the lock for the life of this shell; status to $st
  # fd 5 is left open in operations on purpose: one that outlives us goes on holding the lock.
  mkdir -p "${L%/*}"
  exec 5>>"$L"
  flock -n 5; st=$?
  case $st in
    0) printf '%s\n%s\n' "$1" "$$" > "$L"
       rm -f "$R"/.in.* "$R"/.out.*
       reply 21 0 '' ;;
    1) exec 5>&-
       reply 21 1 "$(cat "$L"; holders)" ;;
    *) give_up "flock does not work here (status $st); it is part of util-linux" ;;
  esac
}
holders() { # PID NAME of every process that has the lock file open
  find /proc/[0-9]*/fd -lname "$(readlink -f "$L")" 2>/dev/null |
  while IFS=/ read -r _ _ p _; do read -r c < "/proc/$p/comm" && echo "$p $c"; done 2>/dev/null | sort -u
}
exec 8</dev/null
