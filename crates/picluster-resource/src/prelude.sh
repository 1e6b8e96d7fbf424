nl='
'
put() { # PATH MODE OWNER GROUP < content
  # Where several steps go together, the file is there already, as it should be and on the disk.
  if [ -n "${ready-}" ]; then mv -fT -- "$ready" "$1"; return; fi
  pd=${1%/*}; pd=${pd:-/}
  swept "$pd"; unused "$pd" || return
  # Owner and mode while it is empty: what is in it is never open to anybody else.
  umask 077; set -C; true > "$pt"; ps=$?; set +C; umask 022
  [ "$ps" = 0 ] || return "$ps"
  if own "$pt" "$2" "$3" "$4" && dd of="$pt" bs=64k conv=fsync status=none && mv -fT -- "$pt" "$1"
  then synced "$pd"; else ps=$?; rm -f -- "$pt"; return "$ps"; fi
}
swept() { # DIRECTORY: without what a killed run left here; only one run at a time holds the node
  # $sw: directories in which something was made ready for several steps. They were swept before, and
  # are on the disk as a whole before any of those steps is done.
  case ${sw-} in *"$nl$1$nl"*) return 0;; esac
  for po in "${1%/}"/.picluster.??????????; do
    if [ -e "$po" ] || [ -L "$po" ]; then rm -f -- "$po"; fi
  done
}
synced() { # DIRECTORY: what was renamed in it is on the disk, unless it will be, together with other directories
  case ${sw-} in *"$nl$1$nl"*) ;; *) sync "$1";; esac
}
unused() { # DIRECTORY: a name in it that nobody can guess, in $pt
  read -r pt < /proc/sys/kernel/random/uuid || return
  pt=${pt##*-}; pt=${1%/}/.picluster.${pt%??}
}
own() { # PATH MODE OWNER GROUP
  pc=1
  # What root has just made is root's, unless the directory says otherwise.
  case $3:$4 in root:root) if [ -O / ] && [ -G / ] && [ -O "$1" ] && [ -G "$1" ]; then pc=; fi;; esac
  { [ -z "$pc" ] || chown "$3:$4" "$1"; } 2>/dev/null && chmod "$2" "$1" 2>/dev/null && return 0
  # A file system without owners (the firmware's vfat): nothing to set.
  case $(stat -f -c %T -- "$1") in msdos|vfat|exfat) return 0;; esac
  # Once more, to hear why.
  chown "$3:$4" "$1" && chmod "$2" "$1"
}
same() { # PATH SHA256: it still is what was read when the edit was worked out
  case $(sha256sum < "$1") in "$2 "*) ;; *) echo "$1 changed while it was being edited; it is left as it is" >&2; return 1;; esac
}
point() { # PATH TARGET: a symbolic link, made or replaced in one stroke
  pd=${1%/*}; pd=${pd:-/}
  swept "$pd"
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then ln -sT -- "$2" "$1" || return; synced "$pd"; return; fi
  unused "$pd" && ln -s -- "$2" "$pt" || return
  if mv -fT -- "$pt" "$1"; then synced "$pd"; else ps=$?; rm -f -- "$pt"; return "$ps"; fi
}
pend() { # UNIT restart|reload
  [ -d /run/picluster/pending ] || mkdir -p /run/picluster/pending || return
  if [ "$2" = reload ] && [ -e "/run/picluster/pending/$1" ]; then return 0; fi
  echo "$2" > "/run/picluster/pending/$1"
}
