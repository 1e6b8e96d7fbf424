# config.txt
R=
cr=$(printf '\r')
show() { # WORD FILE NAME: its bytes; a last line without a newline begins with "+"
  echo "$1 $3"
  while IFS= read -r l; do printf '|%s\n' "$l"; done < "$2"
  [ -z "$l" ] || printf '+%s\n' "$l"
}
for d in /boot/firmware /boot; do
  [ -f $R$d/config.txt ] || continue
  done_=' ' todo=config.txt
  while [ -n "$todo" ]; do
    n=${todo%% *}; case $todo in *' '*) todo=${todo#* };; *) todo=;; esac
    case $done_ in *" $n "*) continue;; esac
    done_="$done_$n "
    [ -f "$R$d/$n" ] || continue
    show file "$R$d/$n" "$d/$n"
    while IFS= read -r l || [ -n "$l" ]; do
      l=${l%"$cr"}
      case $l in 'include '*) todo="${todo:+$todo }${l#include }";; esac
    done < "$R$d/$n"
  done
done
for f in $R/run/picluster/config-txt/*; do [ -e "$f" ] && show was "$f" "${f##*/}"; done
while read -r _ m t o _; do case $m in /boot|/boot/firmware) echo "mount $m $t $o";; esac; done < $R/proc/mounts
[ ! -r $R/etc/fstab ] || while read -r _ m _; do case $m in /boot|/boot/firmware) echo "fstab $m";; esac; done < $R/etc/fstab
echo "pages $(getconf PAGESIZE 2>/dev/null)"
echo end
