d=/var/lib/rancher/k3s/server/db
[ ! -e "$d/state.db" ] && [ ! -d "$d/etcd/member" ] || exit 0
found() { case $c in *'BEGIN CERTIFICATE'*) c=$(printf '%s\n' "$c" | sha256sum); echo "ca ${c%% *}";; *) echo silent;; esac; }
if command -v curl >/dev/null; then
  c=$(curl -ksf --max-time 6 "https://$h:$p/cacerts" 2>/dev/null) || c=
  found
elif command -v openssl >/dev/null; then
  c=$({ printf 'GET /cacerts HTTP/1.0\r\nHost: %s\r\n\r\n' "$h"; sleep 2; } | timeout 6 openssl s_client -quiet -connect "$h:$p" 2>/dev/null | sed -n '/BEGIN CERT/,$p')
  found
elif command -v bash >/dev/null && timeout 6 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$h" "$p" 2>/dev/null; then echo open
else echo silent
fi
