# Prints what is missing of the objects in $file, and with $all what is not ready; nothing when all is well.
amiss() {
  kc get -f "$file" -o 'custom-columns=KIND:.kind,NS:.metadata.namespace,NAME:.metadata.name,GEN:.metadata.generation,SEEN:.status.observedGeneration,WANT:.spec.replicas,NEW:.status.updatedReplicas,UP:.status.readyReplicas,DWANT:.status.desiredNumberScheduled,DNEW:.status.updatedNumberScheduled,DUP:.status.numberReady,DONE:.status.succeeded,JOBS:.spec.completions,CRD:.status.conditions[?(@.type=="Established")].status' |
    awk -v all="$all" '
      function n(text, none) { return text == "<none>" ? none : text + 0 }
      # Of what stands there now, none is of a text that its controller has not seen yet.
      function up(updated, ready) { return n($5, 0) < n($4, 0) ? 0 : updated < ready ? updated : ready }
      function tell(have, want) { print $1 " " ($2 == "<none>" ? "" : $2 "/") $3 ": " have " of " want " ready" }
      all != "yes" || $1 == "KIND" { next }
      $1 == "Deployment" || $1 == "StatefulSet" {
        want = n($6, 1)
        if (up(n($7, 0), n($8, 0)) < want) tell(up(n($7, 0), n($8, 0)), want)
      }
      $1 == "DaemonSet" && (n($5, 0) < n($4, 0) || up(n($10, 0), n($11, 0)) < n($9, 0)) { tell(up(n($10, 0), n($11, 0)), n($9, 0)) }
      $1 == "Job" && n($12, 0) < n($13, 1) { tell(n($12, 0), n($13, 1)) }
      $1 == "CustomResourceDefinition" && $14 != "True" { print $1 " " $3 ": not established" }'
  sed -n \
    -e 's/^Error from server (NotFound): \([^ ]*\) "\(.*\)" not found$/\1 \2: missing/p' \
    -e 's/^.*no matches for kind "\([^"]*\)" in version "\([^"]*\)".*$/\1 (\2): missing/p' \
    /run/picluster/kubectl.err | sort -u
}
