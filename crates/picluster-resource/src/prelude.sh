nl='
'
put() { # PATH MODE OWNER GROUP < content
  pd=${1%/*}; pd=${pd:-/}
  # What a killed run left here; only one run at a time holds the node.
  rm -f -- "${pd%/}"/.picluster.??????????
  pt=$(mktemp "${pd%/}/.picluster.XXXXXXXXXX") || return
  if cat > "$pt" && own "$pt" "$2" "$3" "$4" && sync "$pt" && mv -fT -- "$pt" "$1"
  then sync "$pd"; else ps=$?; rm -f -- "$pt"; return "$ps"; fi
}
own() { # PATH MODE OWNER GROUP
  pe=$(chown "$3:$4" "$1" 2>&1 && chmod "$2" "$1" 2>&1) && return 0
  # A file system without owners (the firmware's vfat): nothing to set.
  case $(stat -f -c %T -- "$1") in msdos|vfat|exfat) return 0;; esac
  echo "$pe" >&2; return 1
}
same() { # PATH SHA256: it still is what was read when the edit was worked out
  case $(sha256sum < "$1") in "$2 "*) ;; *) echo "$1 changed while it was being edited; it is left as it is" >&2; return 1;; esac
}
point() { # PATH TARGET: a symbolic link, replaced in one stroke
  pd=${1%/*}; pd=${pd:-/}
  rm -f -- "${pd%/}"/.picluster.??????????
  pt=$(mktemp -u "${pd%/}/.picluster.XXXXXXXXXX") || return
  ln -s -- "$2" "$pt" || return
  if mv -fT -- "$pt" "$1"; then sync "$pd"; else ps=$?; rm -f -- "$pt"; return "$ps"; fi
}
pend() { # UNIT restart|reload
  mkdir -p /run/picluster/pending
  if [ "$2" = reload ] && [ -e "/run/picluster/pending/$1" ]; then return 0; fi
  echo "$2" > "/run/picluster/pending/$1"
}
