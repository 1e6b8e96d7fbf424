s=0 bad=0
while :; do
  w=; k=
  while read -r a b; do case $a in left) w="$w; $b"; k="$k $b";; esac; done <<E
$(left_of_first_boot)
E
  [ -n "$w" ] || break
  if [ "$k" = ' cloud-init' ]; then
    c=0; cloud-init status >/dev/null 2>&1 || c=$?
    if [ "$c" = 1 ]; then bad=$((bad + 1)); else bad=0; fi
    if [ "$bad" -ge 10 ]; then echo 'cloud-init ended with an error; see: cloud-init status --long; /var/log/cloud-init.log' >&2; exit 1; fi
  fi
  s=$((s + 1))
  if [ "$s" -gt "$limit" ]; then echo "the first boot is not finished after $limit s; still there: ${w#; }" >&2; exit 1; fi
  sleep 1
done
