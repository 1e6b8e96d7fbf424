nl='
'
put() { # PATH MODE OWNER GROUP < content
  pd=${1%/*}; pd=${pd:-/}
  pt=$(mktemp "${pd%/}/.picluster.XXXXXXXXXX") || return
  if cat > "$pt" && chmod "$2" "$pt" && { chown "$3:$4" "$pt" 2>/dev/null || own_less "$pd"; } && sync "$pt" && mv -fT "$pt" "$1"
  then sync "$pd"; else ps=$?; rm -f "$pt"; return "$ps"; fi
}
own_less() { # a file system without owners (the firmware's vfat): nothing to set
  case $(stat -f -c %T "$1") in msdos|vfat|exfat) ;; *) echo "cannot set the owner in $1" >&2; return 1;; esac
}
pend() { # UNIT restart|reload
  mkdir -p /run/picluster/pending
  if [ "$2" = reload ] && [ -e "/run/picluster/pending/$1" ]; then return 0; fi
  echo "$2" > "/run/picluster/pending/$1"
}
