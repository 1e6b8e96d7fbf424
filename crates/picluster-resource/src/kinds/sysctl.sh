# sysctl configuration
R=
for d in etc usr/local/lib usr/lib lib; do
  # /lib is the same directory as /usr/lib on merged systems.
  if [ $d = lib ] && [ -L $R/lib ]; then continue; fi
  for f in $R/$d/sysctl.d/*.conf; do
    [ -e "$f" ] || continue
    echo "file ${f#"$R"}"
    while IFS= read -r l || [ -n "$l" ]; do case $l in ''|'#'*|';'*) ;; *) printf '|%s\n' "$l";; esac; done < "$f"
  done
done
