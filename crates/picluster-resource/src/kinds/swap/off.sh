r=0; m=$(swapoff -a 2>&1) || r=$?
on=; while read -r d t _; do [ "$t" = Type ] || on="$on $d"; done < /proc/swaps
if [ -n "$on" ]; then
  printf '%s\n' "$m" >&2
  case $r:$m in
    2:*|*'Cannot allocate memory'*) echo "there is too little memory to take back what is swapped out to$on; move work away from this node, or reboot it: nothing switches swap on again" >&2;;
    *) echo "still in use:$on" >&2;;
  esac
  exit 1
fi
