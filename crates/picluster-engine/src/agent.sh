# The node-side half of a session, loaded once into the shell that reads the controller's lines.
# $R: directory for what lives as long as one step. $L: the lock file. Both are set before this.
reply() { printf '@%s %s %s\n%s' "$1" "$2" "${#3}" "$3"; }
# What cannot be mended here is said in one frame; then this shell is gone, so that nothing that is
# still on its way can be taken for a command.
give_up() { reply 22 1 "$1"; exit 1; }
# Read-only questions. A subshell: whatever they define or break stays inside.
probe() { ( eval "$1" ) </dev/null; }
receive() { # SCRIPT_LENGTH PAYLOAD_LENGTH: script to $s, payload behind fd 8, nothing left on disk
  [ -d "$R" ] || mkdir -p "$R" || give_up "cannot write below $R"
  f=$R/.in.$$
  umask 077
  # One read of as many bytes as there are: `head` may take more than it prints.
  dd bs="$2" count=1 iflag=fullblock of="$f" 2>/dev/null || { rm -f "$f"; give_up "no room for $2 bytes below $R"; }
  umask 022
  exec 8<"$f"
  rm -f "$f"
  # Behind the payload: a script that is whole means that the payload is, too. Half a payload must
  # never reach an operation.
  s=$(head -c "$1"); [ "${#s}" = "$1" ] || exit 3
}
record() { # DIRECTORY NAME TEXT MARK TEXT: that it was begun, and who owns it; on the disk before anything is done to it
  [ -d "$1" ] || mkdir -p "$1" || return
  rs=0 rf=$1/$2
  umask 077
  printf '%s\n' "$5" > "$1/$4" || return
  if [ -e "$rf" ]; then
    # No moment without the old one or the new one, as a whole.
    printf '%s\n' "$3" > "$1/.$2" && sync "$1/.$2" && mv -fT -- "$1/.$2" "$rf" || rs=$?
  else
    printf '%s\n' "$3" > "$rf" || rs=$?
  fi
  umask 022
  [ "$rs" = 0 ] && sync "$rf" "$1"
}
op() { # BEFORE SCRIPT AFTER: the first two in a subshell that stops at the first error; status to $st
  # Output goes to a file that has no name any more: a chatty program can neither block on a
  # controller that is gone nor be killed by its absence, and nothing has to be cleaned up. One for
  # all steps of this shell, emptied before each: what an earlier step left running may still write
  # to it, and then shows in a failure of a later one, never in a success.
  if [ -n "$O" ]; then true > "$O"; else
    f=$R/.out.$$
    umask 077
    { [ -d "$R" ] || mkdir -p "$R"; } && true > "$f" || give_up "cannot write below $R"
    umask 022
    exec 9>>"$f"; rm -f "$f"
    O=/proc/$$/fd/9
  fi
  # Never in the condition of an `if` or beside `&&`: there `set -e` is without effect.
  ( set -eu; eval "$1" </dev/null; eval "$2" ) <&8 >&9 2>&1 8<&- 9>&-
  st=$?
  if [ "$st" = 0 ] && [ -n "$3" ]; then
    # One command of our own, which needs no shell of its own.
    { eval "$3"; } </dev/null >&9 2>&1
    st=$?
  fi
  o=x
  [ "$st" = 0 ] || o=$(tail -c 65536 < "$O" | tr -d '\000'; echo x)
  exec 8</dev/null
  reply 20 "$st" "${o%x}"
}
lock() { # OWNER, one line: takes the lock for the life of this shell; status to $st
  # fd 5 is left open in operations on purpose: one that outlives us goes on holding the lock.
  [ -d "${L%/*}" ] || mkdir -p "${L%/*}"
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
O=
