# numbers for a cluster
R=
get() { v=; IFS= read -r v < "$1" || [ -n "$v" ]; } 2>/dev/null
j=
for f in /var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher/k3s/agent/server-ca.crt /etc/kubernetes/pki/ca.crt; do
  [ ! -e "$R$f" ] || j=1
done
[ -z "$j" ] || echo member
# Where the datastore is, or will be: the nearest folder that exists.
for p in "$R"/var/lib/rancher/k3s/server/db "$R"/var/lib/etcd "$R"/var/lib/rancher "$R"/var/lib; do [ ! -d "$p" ] || break; done
echo "place ${p#"$R"}"
stat -f -c 'space %a %f %b %S' "$p" 2>/dev/null
findmnt -n -r -o MAJ:MIN,TARGET -T "$p" 2>/dev/null | while read -r m t; do
  echo "mount $t"
  cd -P "$R/sys/dev/block/${m:-none}" 2>/dev/null || break
  # Down to the disk, which alone counts its flushes: out of partitions, through encryption and logical volumes.
  for _ in 1 2 3 4; do
    [ ! -e partition ] || cd ..
    set -- slaves/*
    { [ -e "$1" ] && cd -P "$1"; } || break
  done
  b=; case $PWD in */usb[0-9]*) b=usb;; esac
  v=; get queue/rotational
  echo "disk ${PWD##*/} ${v:-0} $b"
  v=; get stat && echo "stat $v"
done
# Of a member the ports are its own; to ask whose they are costs a look at every process.
[ -n "$j" ] || ss -Hltnp 2>/dev/null | while read -r _ _ _ a _ u; do
  case ${a##*:} in 6443|10250|2379|2380) ;; *) continue;; esac
  u=${u#*'(("'}; echo "port ${a##*:} ${u%%'"'*}"
done
