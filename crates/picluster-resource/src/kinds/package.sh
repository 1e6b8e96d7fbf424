export LC_ALL=C DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical APT_LISTCHANGES_FRONTEND=none
# Which services restart is said in the plan; needrestart would restart others behind its back.
export NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l
# Waiting for the frontend's lock is apt's own; the locks it gives up on at once are waited for below.
opts='-y -q -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=240 -o Acquire::Retries=3'
wait_s=240
fresh=
fetch_out=

die() { printf '%s\n' "$@" >&2; exit 1; }

holder() { # who holds an apt or dpkg lock, from the kernel's list of locks
  for hf in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock; do
    hi=$(stat -c %i "$hf" 2>/dev/null) || continue
    while read -r _ hk _ _ hp hn _; do
      case $hk:$hn in
        POSIX:*:"$hi") hc=; read -r hc < "/proc/$hp/comm" || :; echo "process $hp ($hc)"; return 0;;
      esac
    done < /proc/locks
  done 2>/dev/null
}

locked() { # CMD...: runs it; while somebody else has a lock, waits; its text is in $out
  while :; do
    rc=0; out=$("$@" 2>&1) || rc=$?
    [ "$rc" != 0 ] || return 0
    case $out in
      *'Could not get lock /var/lib/dpkg/lock-frontend'*) wait_s=0;;
      *'Could not get lock'*|*'Unable to lock'*|*'Unable to acquire the dpkg'*|*'lock was locked by'*|*'status database is locked'*) ;;
      *) return "$rc";;
    esac
    if [ "$wait_s" -le 0 ]; then
      h=$(holder); case $out in *'held by process '*) h=${out##*held by process }; h="process ${h%%)*})";; esac
      die "the package system is in use: ${h:-another process} kept its lock for four minutes" "nothing was installed or removed; run apply again when it is done"
    fi
    sleep 3; wait_s=$((wait_s - 3))
  done
}

explain() { # what apt said last, and what it means
  { [ -z "$fetch_out" ] || printf '%s\n' "$fetch_out" | tail -n 8
  printf '%s\n' "$out" | tail -n 15
  case $fetch_out$out in
    *'is not valid yet'*|*'not yet valid'*|*'not activated yet'*)
      echo "the node's clock is behind ($(date -u '+%Y-%m-%d %H:%M') UTC): apt refuses lists that seem to come from the future; set the clock first";;
    *'Temporary failure resolving'*|*'Could not resolve'*) echo 'the node cannot resolve the names of its package servers';;
    *'remove is disabled'*) echo 'it would remove other packages, which the plan did not say; name those as absent first';;
    *'enough free space'*|*'No space left on device'*) echo 'the disk is full';;
    *'Read-only file system'*) echo 'a file system is mounted read-only; look for a dying card in dmesg';;
    *'unmet dependencies'*|*'generated breaks'*) echo 'apt finds no way to do this without breaking other packages';;
  esac; } >&2
  exit 1
}

refresh() { # fetches the package lists, once; a broken repository stops only who needs it
  [ -z "$fresh" ] || return 0
  fresh=1
  locked apt-get $opts -o APT::Update::Error-Mode=any update || fetch_out=$out
}

have_candidate() { # NAME...: each must be something apt can install
  for n; do
    c=$(apt-cache policy -- "$n" | while read -r k v _; do [ "$k" != Candidate: ] || echo "$v"; done)
    case $c in ''|'(none)')
      p=$(apt-cache showpkg -- "$n" 2>/dev/null | sed '1,/^Reverse Provides/d;s/ .*//' | sort -u | tr '\n' ' ')
      [ -z "$fetch_out" ] || printf '%s\n' "$fetch_out" | tail -n 8 >&2
      [ -z "$p" ] || die "$n is not a package but a name that others provide: name one of them: $p"
      die "no repository of this node has a package $n";;
    esac
  done
}

install() { # FLAG... NAME...: one transaction
  while :; do
    locked apt-get $opts --no-remove "$@" && return 0
    case $fresh:$out in
      :*'404  Not Found'*|:*'Unable to fetch some archives'*|:*'Unable to locate package'*|:*'was not found'*|:*'no installation candidate'*) refresh;;
      *) explain;;
    esac
  done
}

remove() { # remove|purge FLAGS NAME...: only what was named
  verb=$1 flags=$2; shift 2
  locked apt-get $opts $flags -s "$verb" "$@" || explain
  extra=$(printf '%s\n' "$out" | while read -r a p _; do
    case $a in Remv|Purg) case " $* " in *" ${p%%:*} "*) ;; *) printf ' %s' "$p";; esac;; esac
  done)
  [ -z "$extra" ] || die "nothing was removed: these need it and would go too:$extra" "name them as absent as well, or leave it installed"
  locked apt-get $opts $flags "$verb" "$@" || explain
}

repair() { # finishes what a power cut or a killed dpkg left half done
  locked dpkg --force-confdef --force-confold --configure -a || explain
  # What would have to be removed for it nobody was shown.
  locked apt-get $opts --no-remove -f install || explain
}
