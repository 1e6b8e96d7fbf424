# packages to upgrade
R=
[ ! -e "$R/run/reboot-required" ] || { echo "reboot $(sort -u "$R/run/reboot-required.pkgs" 2>/dev/null | tr '\n' ' ')"; }
echo "running $(uname -r)"
for d in "$R"/lib/modules/*/modules.dep; do d=${d%/modules.dep}; [ ! -e "$d/modules.dep" ] || [ ! -d "$d/kernel" ] || echo "kernel ${d##*/}"; done
j=; for f in "$R"/var/lib/dpkg/updates/[0-9]*; do [ ! -e "$f" ] || j=1; done
[ -z "$j" ] || echo interrupted
# Simulated, without a lock, and without the caches and the log of its planner that it would write otherwise.
if s=$(LC_ALL=C apt-get -s -q -o Debug::NoLocking=true -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Dir::Log::Planner= -o Dir::Log::Solver= --with-new-pkgs upgrade 2>&1); then
  printf '%s\n' "$s" | grep '^Inst '
  echo asked
else
  printf '%s\n' "$s" | tail -n 3 | sed 's/^/failed /'
fi
