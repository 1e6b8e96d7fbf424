# The boot files of this guard are tried: those from before go back in place, the new ones beside them, and the firmware
# is told to read these at one boot only. Behind guard.sh, in an operation.
f=/boot/firmware; [ -e $f/config.txt ] || f=/boot
no() { echo "$1"; exit 1; }
for p in "$f/tryboot.txt" "$f/tryboot-cmdline.txt"; do
  [ ! -e "$p" ] || no "$p is there already"
done
[ -e "$f/config.txt" ] || no "there is no $f/config.txt"
while IFS= read -r p; do
  case $p in "$f/cmdline.txt"|"$f/config.txt") ;; /boot/*) no "$p is none of the files that can be tried";; esac
done < "$G/paths"
umask 022
# Where the kernel does not come as far as the root file system nobody is there to help: then it has to start anew by
# itself. Since Linux 6.6 it need not wait for its root for ever.
IFS= read -r l < "$f/cmdline.txt" || :
l=${l%"$(printf '\r')"}
v=$(uname -r); major=${v%%.*}; minor=${v#*.}; minor=${minor%%[!0-9]*}
if [ "$major" -gt 6 ] || { [ "$major" = 6 ] && [ "${minor:-0}" -ge 6 ]; }; then
  l=" $l "
  case $l in *' rootwait '*) l="${l%% rootwait *} rootwait=60 ${l#* rootwait }";; esac
  l=${l# }; l=${l% }
fi
guard_save "$f/tryboot-cmdline.txt"
guard_save "$f/tryboot.txt"
printf '%s panic=20\n' "$l" | put "$f/tryboot-cmdline.txt" 0755 root root
{ cat "$f/config.txt"; printf '\n[all]\ncmdline=tryboot-cmdline.txt\n'; } | put "$f/tryboot.txt" 0755 root root
n=0
while IFS= read -r p; do
  n=$((n + 1))
  case $p in "$f/cmdline.txt"|"$f/config.txt") cp -p -- "$p" "$G/try.$n"; echo "$n $p" >> "$G/.try";; esac
done < "$G/paths"
mv "$G/.try" "$G/try"
sync
while read -r n p; do
  put "$p" "$(stat -c %a -- "$p")" root root < "$G/$n"
done < "$G/try"
sync
systemctl --no-block --reboot-argument='0 tryboot' reboot
