# The node-side end of an upload. $F: where the file is collected, $D: its SHA-256, $N: its size.
LC_ALL=C; PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
say() { printf '@upload %s\n' "$*"; }
# Older uploads for the same place: the name is the same up to the last dot.
for o in "${F%.*}".*; do [ "$o" = "$F" ] || rm -f -- "$o"; done
# A writer whose broken connection nobody has missed yet must not add to what is taken up now.
for p in $(find /proc/[0-9]*/fd -lname "$F" 2>/dev/null); do
  p=${p#/proc/}; kill -9 "${p%%/*}" 2>/dev/null
done
n=0; h=-
[ ! -s "$F" ] || { n=$(stat -c %s -- "$F") && h=$(sha256sum < "$F"); } || exit 1
a=$(df -Pk -- "${F%/*}/" | awk 'NR == 2 { print $4 }')
say have "$n" "${h%% *}" "${a:-0}"
# Where to go on, or nothing: the controller has thought better of it.
IFS= read -r w || exit 0
case $w in ''|*[!0-9]*) exit 0;; esac
if [ "$w" = 0 ]; then : > "$F"; else truncate -s "$w" -- "$F"; fi || exit 1
# To the end of input, which is the end of the file or of the connection: `cat` takes a pipe's whole content in one go, where
# `head -c` takes 8 KiB. No room is no reason to keep what has come: it would only be in the way.
cat >> "$F" || { rm -f -- "$F"; exit 1; }
[ "$(stat -c %s -- "$F")" = "$N" ] || exit 3
sync "$F" || exit 1
h=$(sha256sum < "$F")
case $h in
  "$D "*) say done ;;
  *) rm -f -- "$F"; say wrong "${h%% *}" ;;
esac
