[ -e "$R/sys/class/net/$i" ] || { echo no-interface; echo end; exit; }
show() { # FILE: its mode and bytes; a last line without a newline begins with "+"
  [ -f "$R$1" ] || return 0
  echo "file $(stat -c %a "$R$1") $1"
  while IFS= read -r l; do printf '|%s\n' "$l"; done < "$R$1"
  [ -z "$l" ] || printf '+%s\n' "$l"
}
runs() { systemctl is-active --quiet "$1"; }
if command -v netplan >/dev/null && for f in "$R"/etc/netplan/*.yaml; do [ -e "$f" ] && break; done; then echo manager netplan
elif command -v nmcli >/dev/null && runs NetworkManager && case $(nmcli -g GENERAL.STATE device show "$i" 2>/dev/null) in ''|10\ *) false;; esac; then echo manager NetworkManager
elif [ -e "$R/etc/dhcpcd.conf" ] && runs dhcpcd; then echo manager dhcpcd
elif runs systemd-networkd; then echo manager networkd
elif [ -e "$R/etc/network/interfaces" ] && grep -qs "^ *iface  *$i " "$R"/etc/network/interfaces "$R"/etc/network/interfaces.d/*; then echo manager ifupdown
fi
show "/etc/netplan/90-picluster-$i.yaml"
show "/etc/NetworkManager/system-connections/picluster-$i.nmconnection"
show "/etc/systemd/network/10-picluster-$i.network"
show /etc/dhcpcd.conf
ip -o addr show dev "$i" scope global | while read -r _ _ k a _; do case $k in inet*) echo "address $a";; esac; done
for k in -4 -6; do ip $k route show default dev "$i" 2>/dev/null; done | while read -r _ v a _; do [ "$v" != via ] || echo "gateway $a"; done
echo end
