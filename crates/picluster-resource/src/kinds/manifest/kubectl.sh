now() { read -r up _ < /proc/uptime; up=${up%.*}; }
# The objects of $file that are in the cluster, one in a line without spaces: KIND.VERSION.GROUP/NAMESPACE/NAME. Fails where
# the cluster does not answer: what cannot be read is not gone.
objects() {
  kc get -f "$file" --ignore-not-found --no-headers -o 'custom-columns=K:.kind,V:.apiVersion,NS:.metadata.namespace,N:.metadata.name' >/run/picluster/objects || return
  awk 'NF == 4 { n = split($2, v, "/"); kind = n == 2 ? $1 "." v[2] "." v[1] : $1; one = kind "/" ($3 == "<none>" ? "" : $3) "/" $4; if (!seen[one]++) print one }' /run/picluster/objects
}
# Which objects were noted when the manifest was applied last. Fails like `objects`.
noted() {
  kc -n kube-system get configmap picluster-manifests --ignore-not-found -o "go-template={{index .data \"$addon.objects\"}}" >/run/picluster/noted || return
  tr ';' '\n' </run/picluster/noted | grep / || :
}
delete() { # the objects on standard input, last first: a namespace or a definition stands in front of what is in it
  grep / | sed '1!G;h;$!d' | while IFS=/ read -r kind ns name; do
    kc ${ns:+-n "$ns"} delete "$kind" "$name" --ignore-not-found --wait=false >/dev/null </dev/null ||
      grep -q "the server doesn't have a resource type" /run/picluster/kubectl.err || { cat /run/picluster/kubectl.err >&2; exit 1; }
  done
}
note() { # $1: merge patch of the notes
  kc -n kube-system create configmap picluster-manifests >/dev/null || grep -q AlreadyExists /run/picluster/kubectl.err || return
  kc -n kube-system patch configmap picluster-manifests --type merge -p "$1" >/dev/null
}
take_away() {
  old=$(noted) || { cat /run/picluster/kubectl.err >&2; exit 1; }
  printf '%s\n' "$old" | delete
  note "{\"data\":{\"$addon\":null,\"$addon.objects\":null}}" || { cat /run/picluster/kubectl.err >&2; exit 1; }
}
# What the cluster says of $file, in one line.
refused() { grep -v '^Warning' /run/picluster/apply.err | head -n 3 | tr '\n' ' '; }
# Applies the file; again while its definitions are not established or a webhook does not answer yet; waits for its objects.
deployed() {
  now; end=$((up + within)); done= known=
  while :; do
    [ -n "$known" ] || { old=$(noted) && known=yes; } || :
    if [ -n "$known" ] && [ -z "$done" ] && kc apply --server-side --force-conflicts --field-manager picluster -f "$file" >/dev/null; then
      # It was applied, so it has objects.
      if new=$(objects) && [ -n "$new" ]; then
        printf '%s\n' "$old" | grep / | while read -r one; do
          printf '%s\n' "$new" | grep -qxF -- "$one" || printf '%s\n' "$one"
        done | delete
        note "{\"data\":{\"$addon\":\"$sum\",\"$addon.objects\":\"$(printf '%s\n' "$new" | tr '\n' ';')\"}}" && done=yes
      fi
    fi
    [ -n "$done" ] || cp /run/picluster/kubectl.err /run/picluster/apply.err
    [ -n "$done" ] && { left=$(amiss); [ -z "$left" ]; } && return 0
    now
    [ "$up" -lt "$end" ] || {
      echo '@@ refused'; [ -n "$done" ] || refused
      echo '@@ amiss'; [ -z "$done" ] || printf '%s\n' "${left-}"
      exit 70
    }
    sleep 1
  done
}
