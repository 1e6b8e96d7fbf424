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
  note "$@" && sync "$1/$4" "$1/$2" "$1"
}
note() { # The same, not yet on the disk: what has to be is added to $due.
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
  due="${due-}$nl$1/$4$nl$rf"
  return "$rs"
}
output() {
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
}
said() { tail -c 65536 < "$O" | tr -d '\000'; echo x; }
op() { # BEFORE SCRIPT AFTER: the first two in a subshell that stops at the first error; status to $st
  output
  # Never in the condition of an `if` or beside `&&`: there `set -e` is without effect.
  if [ -n "${pay+x}" ]; then
    feed | ( set -eu; eval "$1" </dev/null; eval "$2" ) >&9 2>&1 8<&- 9>&-
    st=$?
    unset pay
  else
    ( set -eu; eval "$1" </dev/null; eval "$2" ) <&8 >&9 2>&1 8<&- 9>&-
    st=$?
  fi
  if [ "$st" = 0 ] && [ -n "$3" ]; then
    # One command of our own, which needs no shell of its own.
    { eval "$3"; } </dev/null >&9 2>&1
    st=$?
  fi
  o=x
  [ "$st" = 0 ] || o=$(said)
  exec 8</dev/null
  reply 20 "$st" "${o%x}"
}
# Several steps in one go: one process does for all of them what would take one for each. First
# `prep`: marks, records, and the files that are to be, under names of their own. When all of that is
# on the disk the steps run, one after the other, until one fails; what they renamed is on the disk
# before anything is answered. A frame for each step that ran, and one for the rest; status to $st,
# 0 only when all went well.
several() { # then three words a step: its script, the number of the file that is ready for it or 0, its mark
  output
  # Contents are words of this command: where it is no part of the shell they would show in the list
  # of processes.
  if [ "$P" != printf ]; then st=1; reply 25 1 'printf is no part of this shell'; return; fi
  (
    exec 7>&1 >&9 2>&1 9>&- </dev/null 8<&-
    set -eu
    due= sw=$nl marks= frames=
    trap tidy EXIT
    prep
    each sync "$due"
    set +eu
    st=0
    while [ $# -gt 0 ]; do
      eval "ready=\${t$2-}"
      true > "$O"
      # Never in the condition of an `if` or beside `&&`: there `set -e` is without effect.
      ( set -eu; eval "$1" ) 7>&-
      st=$?; o=x
      [ "$st" = 0 ] || o=$(said)
      o=${o%x}; frames="${frames}@20 $st ${#o}$nl$o"
      [ "$st" = 0 ] || break
      marks=$marks$nl$3
      shift 3
    done
    true > "$O"
    [ "$sw" = "$nl" ] || each sync "$sw"; ws=$?
    [ "$ws" != 0 ] || [ -z "$marks" ] || { each 'rm -f --' "$marks"; ws=$?; }
    o=x
    [ "$ws" = 0 ] || o=$(said)
    o=${o%x}
    [ "$st" != 0 ] || trap - EXIT
    printf %s "$frames@25 $ws ${#o}$nl$o" >&7
    [ "$st$ws" = 00 ] || exit 200
  )
  st=$?
  unset -f prep
  case $st in 0|200) ;; *) o=$(said); reply 25 "$st" "${o%x}";; esac
}
each() { # COMMAND LINES: the command with every line as a word of its own
  set -f; IFS=$nl
  set -- "$1" $2
  unset IFS; set +f
  en=$1; shift
  $en "$@"
}
fresh() { # NUMBER PATH: an empty file beside PATH that nobody else can open, its name in the variable t with this number
  pd=${2%/*}; pd=${pd:-/}
  case $sw in *"$nl$pd$nl"*) ;; *) swept "$pd"; sw=$sw$pd$nl;; esac
  unused "$pd" || return
  umask 077; set -C; true > "$pt"; ps=$?; set +C; umask 022
  [ "$ps" = 0 ] || return "$ps"
  eval "t$1=\$pt"
  due=$due$nl$pt
}
rights() { # MODE OWNER GROUP FILE...: `own` for all of them, in one process where that will do
  rm=$1 ro=$2 rg=$3 rc=1
  shift 3
  case $ro:$rg in root:root) if [ -O / ] && [ -G / ]; then
    rc=; for rf; do { [ -O "$rf" ] && [ -G "$rf" ]; } || rc=1; done; fi;; esac
  { [ -z "$rc" ] || chown "$ro:$rg" "$@"; } 2>/dev/null && chmod "$rm" "$@" 2>/dev/null && return 0
  for rf; do own "$rf" "$rm" "$ro" "$rg" || return; done
}
tidy() { # takes away what was made ready and is not needed
  set -f; IFS=$nl
  set -- $sw
  unset IFS; set +f
  sw=
  for d; do swept "$d"; done
}
lock() { # OWNER, one line: takes the lock for the life of this shell; status to $st
  # fd 5 is left open in operations on purpose: one that outlives us goes on holding the lock.
  [ -d "${L%/*}" ] || mkdir -p "${L%/*}"
  exec 5>>"$L"
  flock -n 5; st=$?
  case $st in
    0) printf '%s\n%s\n' "$1" "$$" > "$L"
       for f in "$R"/.in.* "$R"/.out.*; do [ ! -e "$f" ] || rm -f "$f"; done
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
# What a step reads, when it came with its script. It shows nowhere: a printf that is a program would
# have it among its arguments.
feed() { case $P in printf) printf %s "$pay";; *) head -c "${#pay}" <<E
$pay
E
;; esac; }
exec 8</dev/null
O=
P=$(command -v printf)
