now() { read -r up _ < /proc/uptime; up=${up%.*}; }
# k3s applies a file again when it is younger, and when the checksum of what was applied last is another one
# (upstream pkg/deploy/controller.go, listFilesIn and deploy).
again() {
  kc -n kube-system patch addons.k3s.cattle.io "$addon" --type merge -p '{"spec":{"checksum":""}}' >/dev/null || { cat /run/picluster/kubectl.err >&2; exit 1; }
  touch -- "$file"
}
applied() {
  got=$(kc -n kube-system get addons.k3s.cattle.io "$addon" -o 'jsonpath={.spec.checksum}') || {
    # Where all of it is to go, another server may have been the faster one.
    [ "$all" = none ] && grep -q '(NotFound)' /run/picluster/kubectl.err; return
  }
  [ "$got" = "$sum" ]
}
# Waits until k3s has applied the text with checksum $sum, and its objects are as they should be.
deployed() {
  from=$(journalctl -n 0 --show-cursor 2>/dev/null | sed -n 's/^-- cursor: //p')
  now; end=$((up + within))
  until applied && { [ "$all" = none ] || { left=$(amiss); [ -z "$left" ]; }; }; do
    now
    [ "$up" -lt "$end" ] || {
      echo '@@ skipped'; [ ! -e "$file.skip" ] || echo "$file.skip"
      echo '@@ refused'
      journalctl -q --no-pager -o cat -u k3s.service ${from:+--after-cursor="$from"} 2>/dev/null |
        sed -n "s|^.*failed to process $file: ||p" | sed 's/"*$//' | tail -n 1
      echo '@@ amiss'; applied && printf '%s\n' "${left-}"
      exit 70
    }
    sleep 1
  done
}
