# kernel command line
R=
cr=$(printf '\r')
done_=' '
show() { # FILE: its bytes; a last line without a newline begins with "+"
  case $done_ in *" $1 "*) return 0;; esac
  [ -f "$R$1" ] || return 0
  done_="$done_$1 "
  echo "file $1"
  while IFS= read -r l; do printf '|%s\n' "$l"; done < "$R$1"
  [ -z "$l" ] || printf '+%s\n' "$l"
}
conf() { # DIR FILE: what of config.txt decides about the command line's file
  [ -f "$R$1/$2" ] || return 0
  echo "config $1/$2"
  while IFS= read -r l || [ -n "$l" ]; do
    l=${l%"$cr"}
    case $l in
      '['*|'DO NOT EDIT'*) printf '|%s\n' "$l";;
      cmdline=*) printf '|%s\n' "$l"; names="$names ${l#*=}";;
      os_prefix=*) printf '|%s\n' "$l"; prefixes="$prefixes ${l#*=}";;
      'include '*) includes="$includes ${l#include }";;
    esac
  done < "$R$1/$2"
}
p=; [ ! -r $R/sys/firmware/devicetree/base/chosen/os_prefix ] || IFS= read -r p < $R/sys/firmware/devicetree/base/chosen/os_prefix || :
echo "prefix $p"
for d in /boot/firmware /boot; do
  names=cmdline.txt prefixes="current/ new/ $p" includes=
  conf $d config.txt
  for i in $includes; do conf $d "$i"; done
  for n in $names; do
    show "$d/$n"
    for p in $prefixes; do show "$d/$p$n"; done
  done
done
show /boot/armbianEnv.txt
show /boot/firmware/ubuntuEnv.txt
if grep -qs raspi-extra-cmdline $R/etc/kernel/postinst.d/z50-raspi-firmware; then echo regenerated; show /etc/default/raspi-extra-cmdline; fi
while read -r _ m t o _; do case $m in /boot|/boot/firmware) echo "mount $m $t $o";; esac; done < $R/proc/mounts
[ ! -r $R/etc/fstab ] || while read -r _ m _; do case $m in /boot|/boot/firmware) echo "fstab $m";; esac; done < $R/etc/fstab
l=; IFS= read -r l < $R/proc/cmdline || :; echo "running $l"
l=; [ ! -r $R/sys/fs/cgroup/cgroup.controllers ] || { read -r l < $R/sys/fs/cgroup/cgroup.controllers || :; echo "v2 $l"; }
[ ! -r $R/proc/cgroups ] || while read -r n _ _ e; do [ "$e" != 1 ] || echo "v1 $n"; done < $R/proc/cgroups
[ ! -e $R/run/picluster/cmdline ] || echo edited
echo end
