m=
while read -r s t k o _; do [ "$t" != "$e" ] || m="$s $k $o"; done < $R/proc/mounts
[ -z "$m" ] || echo "mounted $m"
if [ -d "$R$p" ]; then
  echo kind directory
  if [ -z "$m" ]; then
    for f in "$R$p"/* "$R$p"/.[!.]* "$R$p"/..?*; do
      if [ -e "$f" ] || [ -L "$f" ]; then echo full; break; fi
    done
  fi
elif [ -e "$R$p" ]; then echo kind other; fi
