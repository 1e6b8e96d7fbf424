for t in sfdisk blkid mkfs.ext4; do command -v $t >/dev/null || { echo "missing $t"; echo end; exit; }; done
r=
if [ "$d" = root ]; then
  # What / stands on, by its number: its name may be /dev/root.
  n=$(stat -c %d /); n=$(((n >> 8) & 4095)):$(((n & 255) | ((n >> 12) & 1048320)))
  s=$(readlink -f "/sys/dev/block/$n") || s=
  [ -n "$s" ] && [ -e "$s/partition" ] || { echo no-root; echo end; exit; }
  read -r r < "$s/start"
  s=${s%/*}; d=/dev/${s##*/}
fi
[ -e "$d" ] || { echo "no-disk $d"; echo end; exit; }
d=$(readlink -f "$d")
echo "disk $d"
if [ -b "$d" ]; then
  read -r z < "/sys/class/block/${d##*/}/size"; [ ! -e "/sys/class/block/${d##*/}/partition" ] || echo partition
else z=$(($(stat -c %s "$d") / 512)); fi
# What the kernel remembers of a disk in use is not what was written to its partitions since.
[ ! -b "$d" ] || blockdev --flushbufs "$d" 2>/dev/null || :
echo "size $z"
[ -z "$r" ] || echo "root $r"
sig() { # START SIZE, in sectors of $u bytes: what is there, on one line
  # Of a mounted file system the disk learns later, its partition's device knows at once (e2label while it is in use).
  n=
  for f in "$R/sys/class/block/${d##*/}"/*/start; do
    [ -r "$f" ] || continue
    read -r s < "$f"; read -r t < "${f%start}size"
    [ "$s $t" != "$(($1 * u / 512)) $(($2 * u / 512))" ] || { f=${f%/start}; n=$R/dev/${f##*/}; }
  done
  if [ -e "$n" ]; then blkid -p -o export "$n"; else blkid -p -o export -O $(($1 * u)) -S $(($2 * u)) "$d"; fi 2>/dev/null |
    # Of a partition blkid also tells its entry in the table, which is no signature.
    while IFS= read -r l; do case $l in PART_ENTRY_*) ;; *) printf '%s ' "$l";; esac; done
}
if j=$(sfdisk --json "$d" 2>/dev/null); then
  printf '%s\n' "$j" | while IFS= read -r l; do printf '|%s\n' "$l"; done
  u=$(printf '%s\n' "$j" | sed -n 's/.*"sectorsize": *\([0-9]*\).*/\1/p'); u=${u:-512}
  m=$((1048576 / u)) c=$((1048576 / u))
  # One partition a line (util-linux before 2.37) and one field a line read alike.
  for p in $(printf '%s\n' "$j" | tr ',' '\n' | sed -n 's/.*"start": *\([0-9]*\).*/\1/p; s/.*"size": *\([0-9]*\).*/\1/p' | paste -d: - - | sort -t: -n) $((z * 512 / u)):0; do
    b=${p%:*} l=${p#*:}
    [ $((b - c)) -lt $m ] || echo "gap $c $(sig $c $((b - c)))"
    [ "$l" = 0 ] || echo "part $b $(sig "$b" "$l")"
    [ $((b + l)) -le $c ] || c=$(((b + l + m - 1) / m * m))
  done
else
  u=512; echo "gap 0 $(sig 0 "$z")"
fi
[ ! -r "$claim" ] || { read -r b l < "$claim"; echo "claim $b $l"; }
echo end
