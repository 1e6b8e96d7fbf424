die() { printf '%s\n' "$@" >&2; exit 1; }
blank() { # START SIZE: blkid finds nothing there; it ends with 2 then, and only then
  # What the kernel remembers of a disk in use is not what was written to its partitions since.
  [ ! -b "$d" ] || blockdev --flushbufs "$d"
  r=0; w=$(blkid -p -o export -O $(($1 * u)) -S $(($2 * u)) "$d" 2>&1) || r=$?
  [ $r = 2 ] || die "$d holds something at sector $1; nothing was formatted:" "$w"
}
unchanged() { # what sfdisk said when the change was worked out
  case $(sfdisk --json "$d" 2>/dev/null | sha256sum) in "$1 "*) ;; *) die "the partition table of $d changed since it was read; it is left as it is";; esac
}
node() { # the partition that begins at sector $b, as a device
  i=0
  while :; do
    for f in /sys/class/block/"${d##*/}"/*/start; do
      s=; read -r s < "$f" || :
      [ "$s" != $((b * u / 512)) ] || { f=${f%/start}; n=/dev/${f##*/}; [ ! -b "$n" ] || return 0; }
    done
    i=$((i + 1)); [ $i -le 20 ] || die "the kernel does not show the new partition of $d at sector $b; reboot the node and apply again"
    command -v udevadm >/dev/null && udevadm settle -t 5 || sleep 1
  done
}
add() { # TYPE NAME: the partition, where the plan said
  mkdir -p "${claim%/*}"
  echo "$b $l" | put "$claim" 0644 root root
  # The table as it was: sfdisk DISK < FILE brings it back.
  [ -z "$table" ] || sfdisk -d "$d" > "${claim%/*}/${d##*/}.before"
  blank "$b" "$l"
  q='--no-reread --no-tell-kernel --wipe never --wipe-partitions never'
  [ "$table" != move ] || sfdisk -q --no-reread --no-tell-kernel --relocate gpt-bak-std "$d"
  if [ -n "$table" ]; then printf '%s\n' "start=$b, size=$l, type=L$1" | sfdisk -q $q --append "$d"
  else printf 'label: gpt\n%s\n' "start=$b, size=$l, type=L$1" | sfdisk -q $q "$d"; fi
  sync "$d"
  # The disk may be in use: only what is new is told to the kernel.
  [ ! -b "$d" ] || partx -u "$d"
}
format() { # NAME
  blank "$b" "$l"
  if [ -b "$d" ]; then
    node
    # Once more, on what is about to be written to.
    # Of a partition blkid also tells its entry in the table.
    r=0; w=$(blkid -p -o export "$n" 2>&1) || r=$?
    w=$(printf '%s\n' "$w" | sed '/^PART_ENTRY_/d; /^DEVNAME=/d; /^$/d')
    case $r:$w in 2:*|0:) ;; *) die "$n holds something; it was not formatted:" "$w";; esac
    mkfs.ext4 -q -m 1 -L "$1" "$n" </dev/null
    sync "$n"
    command -v udevadm >/dev/null && { udevadm trigger --settle "$n" 2>/dev/null || udevadm settle -t 10 || :; }
  else
    mkfs.ext4 -q -F -m 1 -L "$1" -E offset=$((b * u)) "$d" $((l * u / 1024))k </dev/null
    sync "$d"
  fi
}
