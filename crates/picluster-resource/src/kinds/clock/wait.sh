s=0
until case $(asked) in *'synchronized yes'*) true;; *) false;; esac; do
  s=$((s + 1))
  if [ "$s" -gt 60 ]; then
    echo "$u runs and no time server answered within a minute (the clock says $(date -u '+%Y-%m-%d %H:%M') UTC)" >&2
    echo 'let UDP port 123 out, or name a server of your network (NTP= in /etc/systemd/timesyncd.conf, server in /etc/chrony/chrony.conf)' >&2
    exit 1
  fi
  sleep 1
done
