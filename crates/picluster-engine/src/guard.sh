# Before a guarded step: what it will touch is kept, and a unit that is no child of ours takes it
# back unless it is stopped in time. Defined for one operation.
G=/var/lib/picluster/guard
guard_open() { # SECONDS SECONDS_AFTER_A_BOOT RESTORE_SCRIPT STEP_AS_JSON BOOT_FILES?
  umask 077
  mkdir -p /run/picluster
  if [ ! -e "$G/paths" ]; then
    rm -rf "$G"
    mkdir -p "$G"
    printf '%s' "$3" > "$G/restore"
    echo "$1" > "$G/window"
    echo "$2" > "$G/boot_window"
    : > "$G/steps"
    : > "$G/paths"
    # Also when the power fails: systemd reads this at the next boot, and not before.
    mkdir -p /etc/systemd/system/sysinit.target.wants
    cat > /etc/systemd/system/picluster-guard-boot.service <<'E'
[Unit]
Description=Takes a change by picluster back unless it is confirmed
DefaultDependencies=no
After=local-fs.target
Conflicts=shutdown.target
Before=shutdown.target
ConditionPathExists=/var/lib/picluster/guard/paths
[Service]
ExecStart=/bin/sh /var/lib/picluster/guard/restore boot
E
    ln -sf ../picluster-guard-boot.service /etc/systemd/system/sysinit.target.wants/
    rm -f /var/lib/picluster/rolled-back
    sync "$G/restore" "$G/steps" /etc/systemd/system/picluster-guard-boot.service /etc/systemd/system/sysinit.target.wants
  fi
  grep -qxF -- "$4" "$G/steps" || printf '%s\n' "$4" >> "$G/steps"
  [ -z "$5" ] || : > "$G/boot"
}
guard_arm() { # SECONDS: from now
  read -r up _ < /proc/uptime
  echo "$((${up%%.*} + $1))" > /run/picluster/.guard.until
  mv -f /run/picluster/.guard.until /run/picluster/guard.until
  systemctl -q is-active picluster-guard.service ||
    systemd-run -q --collect --unit=picluster-guard.service /bin/sh "$G/restore" wait
}
guard_save() { # PATH: its content, mode and owner, or that it is not there; the first one counts
  if grep -qxF -- "$1" "$G/paths"; then return 0; fi
  i=$(($(wc -l < "$G/paths") + 1))
  rm -f -- "$G/$i"
  if [ -L "$1" ] || [ -e "$1" ]; then cp -dp -- "$1" "$G/$i"; fi
  sync "$G"
  printf '%s\n' "$1" >> "$G/paths"
  sync "$G/paths"
}
guard_undo() { # SCRIPT: run after the files are back, the last one first
  i=1
  while [ -e "$G/undo.$i" ]; do i=$((i + 1)); done
  printf '%s' "$1" > "$G/undo.$i"
  sync "$G/undo.$i"
}
