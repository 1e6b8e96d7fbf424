# Before a guarded step: what it will touch is kept, and a unit that is no child of ours takes it
# back unless it is stopped in time. Defined for one operation. Files are read and written by the
# shell itself where it can: every program that is started here delays a change to the way in.
G=/var/lib/picluster/guard
holds() { # FILE LINE: whether the file has this line; how many it has in $hn
  hn=0 hs=1
  while IFS= read -r hl; do
    hn=$((hn + 1))
    [ "$hl" != "$2" ] || hs=0
  done < "$1"
  return "$hs"
}
guard_open() { # SECONDS SECONDS_AFTER_A_BOOT RESTORE_SCRIPT STEP_AS_JSON BOOT_FILES?
  umask 077
  [ -d /run/picluster ] || mkdir -p /run/picluster
  if [ ! -e "$G/paths" ]; then
    gw=/etc/systemd/system/sysinit.target.wants
    if [ -e "$G" ] || [ -L "$G" ]; then rm -rf "$G"; fi
    mkdir -p "$G" "$gw"
    printf '%s' "$3" > "$G/restore"
    echo "$1" > "$G/window"
    echo "$2" > "$G/boot_window"
    : > "$G/steps"
    : > "$G/paths"
    # Also when the power fails: systemd reads this at the next boot, and not before.
    printf '%s\n' '[Unit]' \
      'Description=Takes a change by picluster back unless it is confirmed' \
      DefaultDependencies=no \
      After=local-fs.target \
      Conflicts=shutdown.target \
      Before=shutdown.target \
      ConditionPathExists=/var/lib/picluster/guard/paths \
      '[Service]' \
      'ExecStart=/bin/sh /var/lib/picluster/guard/restore boot' > /etc/systemd/system/picluster-guard-boot.service
    ln -sf ../picluster-guard-boot.service "$gw/"
    [ ! -e /var/lib/picluster/rolled-back ] || rm -f /var/lib/picluster/rolled-back
    sync "$G/restore" "$G/window" "$G/boot_window" "$G/steps" "$G" /etc/systemd/system/picluster-guard-boot.service "$gw"
  fi
  holds "$G/steps" "$4" || printf '%s\n' "$4" >> "$G/steps"
  [ -z "$5" ] || : > "$G/boot"
}
guard_arm() { # SECONDS: from now
  read -r up _ < /proc/uptime
  # Whoever waits reads it at any moment.
  echo "$((${up%%.*} + $1))" > /run/picluster/.guard.until
  ga=; [ ! -e /run/picluster/guard.until ] || ga=1
  mv -f /run/picluster/.guard.until /run/picluster/guard.until
  if [ -n "$ga" ] && systemctl -q is-active picluster-guard.service; then return 0; fi
  guard_start 2>/dev/null || systemctl -q is-active picluster-guard.service || guard_start
}
guard_start() { systemd-run -q --collect --unit=picluster-guard.service /bin/sh "$G/restore" wait; }
guard_save() { # PATH...: content, mode and owner of each, or that it is not there; the first time counts
  gl= gk= gi=
  for gp; do
    if holds "$G/paths" "$gp"; then continue; fi
    case $gl in *"$nl$gp$nl"*) continue;; esac
    # The number of its line.
    gi=$((${gi:-$hn} + 1))
    if [ -e "$G/$gi" ] || [ -L "$G/$gi" ]; then rm -f -- "$G/$gi"; fi
    if [ -L "$gp" ] || [ -e "$gp" ]; then
      cp -dp -- "$gp" "$G/$gi"
      gk=1
      [ -L "$gp" ] || sync "$G/$gi"
    fi
    gl=${gl:-$nl}$gp$nl
  done
  [ -n "$gl" ] || return 0
  [ -z "$gk" ] || sync "$G"
  # In one stroke, and nothing is changed before it is on the disk.
  printf %s "${gl#"$nl"}" >> "$G/paths"
  sync "$G/paths"
}
guard_undo() { # SCRIPT: run after the files are back, the last one first
  i=1
  while [ -e "$G/undo.$i" ]; do i=$((i + 1)); done
  printf '%s' "$1" > "$G/undo.$i"
  sync "$G/undo.$i"
}
