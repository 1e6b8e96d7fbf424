refresh() { # asked for when a version is no longer to be had, before anything is unpacked
  locked apt-get $opts update || :
  die 'a version that was shown is no longer in its repository; nothing was upgraded, and the lists were fetched anew' 'picluster plan shows the versions of today'
}
only_these() { # NAME... -- NAME=VERSION...: what else would come along is none of what was shown
  names=' '
  while [ "$1" != -- ]; do names="$names$1 "; shift; done
  shift
  locked apt-get $opts --no-remove -s --no-install-recommends install "$@" || explain
  extra=$(printf '%s\n' "$out" | while read -r a p _; do [ "$a" != Inst ] || case $names in *" $p "*) ;; *) printf ' %s' "$p";; esac; done)
  [ -z "$extra" ] || die "nothing was upgraded: these would go too, and were not shown:$extra" 'upgrade: all takes them along'
}
