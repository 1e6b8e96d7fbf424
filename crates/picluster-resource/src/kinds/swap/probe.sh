# swap in use and switched on
R=
show() { # a configuration file without its comments
  [ -e "$R$1" ] || return 0
  echo "file $1"
  while IFS= read -r l || [ -n "$l" ]; do case $l in ''|'#'*|';'*) ;; *) printf '|%s\n' "$l";; esac; done < "$R$1"
}
here() { # UNIT: its file, not masked
  for d in etc run usr/local/lib usr/lib lib; do
    [ -e "$R/$d/systemd/system/$1" ] || continue
    # A link to /dev/null, or an empty file, masks.
    [ -s "$R/$d/systemd/system/$1" ] && return 0
    return 1
  done
  return 1
}
while read -r n t s u _; do [ "$t" = Type ] || echo "now $n $t $s $u"; done < $R/proc/swaps
for u in dphys-swapfile zramswap zram-config armbian-zram-config; do
  here $u.service || continue
  for l in $R/etc/systemd/system/*.wants/$u.service; do [ ! -L "$l" ] || { echo "service $u.service"; break; }; done
done
# An init script without a unit of its own: systemd-sysv-generator starts it by these links.
for l in $R/etc/rc[2345].d/S*; do
  case $l in *S[0-9][0-9]dphys-swapfile|*S[0-9][0-9]zramswap|*S[0-9][0-9]zram-config) ;; *) continue;; esac
  u=${l##*/S??}.service; here "$u" || [ -e "$R/etc/systemd/system/$u" ] || [ -e "$R/usr/lib/systemd/system/$u" ] || [ -e "$R/lib/systemd/system/$u" ] || echo "service $u"
done
for l in $R/etc/systemd/system/*.wants/*.swap $R/etc/systemd/system/*.requires/*.swap; do
  [ ! -L "$l" ] || ! here "${l##*/}" || echo "unit ${l##*/}"
done
for f in $R/run/systemd/generator.late/*.swap; do
  [ -e "$f" ] || continue
  l=; read -r l < "$f"
  case $l in *gpt-auto*) ;; *) continue;; esac
  [ -e "$R/etc/systemd/system/${f##*/}" ] || echo "gpt ${f##*/}"
done
show /etc/dphys-swapfile
show /etc/default/armbian-zram-config
g=; for d in usr/lib lib; do [ -e $R/$d/systemd/system-generators/rpi-swap-generator ] && g=1; done
if [ -n "$g" ]; then
  echo rpi-swap
  for d in etc usr/local/lib usr/lib; do show /$d/rpi/swap.conf; for f in $R/$d/rpi/swap.conf.d/*.conf; do show "${f#"$R"}"; done; done
fi
g=; for d in usr/lib lib; do [ -e $R/$d/systemd/system-generators/zram-generator ] && g=1; done
if [ -n "$g" ]; then
  echo zram-generator
  for d in etc usr/local/lib usr/lib; do show /$d/systemd/zram-generator.conf; for f in $R/$d/systemd/zram-generator.conf.d/*.conf; do show "${f#"$R"}"; done; done
fi
[ ! -e $R/etc/udev/rules.d/98-dietpi-zram-swap.rules ] || echo dietpi
l=; read -r l < $R/proc/cmdline || :; echo "cmdline $l"
echo end
