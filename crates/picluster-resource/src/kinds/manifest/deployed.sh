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
# What k3s has said of $file since $from, one refusal in a line. All that fails in one look stands in one message,
# joined by line ends or, in older releases, by commas (upstream pkg/deploy/controller.go, listFilesIn); logrus quotes it.
refused() {
  journalctl -q --no-pager -o cat -u k3s.service ${from:+--after-cursor="$from"} 2>/dev/null |
    sed -n "\\|failed to process $file: |{
      s/\"\$//
      s|^.*failed to process $file: ||
      s/\\\\nfailed to process .*//
      s/\\\\nfailed to delete .*//
      s/, failed to process .*//
      s/, failed to delete .*//
      s/\\\\n/ /g
      s/\\\\\"/\"/g
      s/\\\\\\\\/\\\\/g
      p
    }"
}
# What no further try mends: text that is no object (upstream ParseManifestFailed; sigs.k8s.io/yaml, apimachinery's
# runtime.NewMissingKindErr). What a webhook or a missing definition refuses may be taken at the next look.
hopeless() { [ "$(refused | tail -n 2 | grep -c -e '^error converting YAML to JSON: ' -e '^yaml: ' -e "^Object '")" = 2 ]; }
# Waits until k3s has applied the text with checksum $sum, and its objects are as they should be.
deployed() {
  from=$(journalctl -n 0 --show-cursor 2>/dev/null | sed -n 's/^-- cursor: //p')
  now; end=$((up + within))
  until applied && { [ "$all" = none ] || { left=$(amiss); [ -z "$left" ]; }; }; do
    now
    [ "$up" -lt "$end" ] && [ ! -e "$file.skip" ] && ! hopeless || {
      echo '@@ skipped'; [ ! -e "$file.skip" ] || echo "$file.skip"
      # It may have been refused at first and taken later.
      echo '@@ refused'; applied || refused | tail -n 1
      echo '@@ amiss'; applied && printf '%s\n' "${left-}"
      exit 70
    }
    sleep 1
  done
}
