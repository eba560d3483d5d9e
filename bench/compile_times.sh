#!/usr/bin/env bash
# What it costs to include ssm: user seconds of an empty program with each header, beside
# Eigen/Dense in the same minute, the least of three compiles. Fails above the bounds in the table.
#
#   bench/compile_times.sh [compiler [include folders...]]
#
# With SSM_PROGRAM=<file>, also that program with headers alone and against ssm::compiled: its
# seconds and its largest memory.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
compiler=${1:-g++}
shift || true
[ $# -gt 0 ] || set -- /usr/include/eigen3
folders=(-I"$root/include")
for folder in "$@"; do folders+=(-idirafter "$folder"); done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Least user seconds of three compiles of $1 with the flags that follow.
least() {
  local source=$1 best='' seconds TIMEFORMAT=%U
  shift
  for _ in 1 2 3; do
    seconds=$({ time "$compiler" -std=c++20 "${folders[@]}" "$@" -c "$source" -o "$work/out.o" \
      2>"$work/errors"; } 2>&1) || { cat "$work/errors" >&2; exit 1; }
    best=$(printf '%s\n' $best "$seconds" | sort -g | head -1)
  done
  echo "$best"
}

measure() { # header, flags...
  echo "#include <$1>" >"$work/program.cpp"
  shift
  least "$work/program.cpp" "$@"
}

failed=0
eigen=$(measure Eigen/Dense -O2)
printf '%-36s %8s %6s %6s\n' "header ($compiler -O2)" seconds times bound
printf '%-36s %8.2f %6.2f\n' Eigen/Dense "$eigen" 1
row() { # name, seconds, bound
  local times
  times=$(awk -v a="$2" -v b="$eigen" 'BEGIN { printf "%.2f", a / b }')
  printf '%-36s %8.2f %6s %6s\n' "$1" "$2" "$times" "$3"
  if awk -v a="$times" -v b="$3" 'BEGIN { exit !(a > b) }'; then failed=1; fi
}
row ssm/control.hpp "$(measure ssm/control.hpp -O2)" "${SSM_BOUND_CONTROL:-1.5}"
row "ssm/control.hpp, ssm::compiled" "$(measure ssm/control.hpp -O2 -DSSM_COMPILED)" \
  "${SSM_BOUND_CONTROL:-1.5}"
row ssm/ssm.hpp "$(measure ssm/ssm.hpp -O2)" "${SSM_BOUND_SSM:-2.5}"
row "ssm/ssm.hpp, ssm::compiled" "$(measure ssm/ssm.hpp -O2 -DSSM_COMPILED)" \
  "${SSM_BOUND_SSM:-2.5}"

if [ -n "${SSM_PROGRAM:-}" ]; then
  for definition in SSM_HEADERS_ALONE SSM_COMPILED; do
    memory=$({ /usr/bin/time -f '%U s, %M KB' "$compiler" -std=c++20 -O3 -march=native \
      -D$definition "${folders[@]}" -c "$SSM_PROGRAM" -o "$work/out.o"; } 2>&1 | tail -1)
    printf '%s, -O3 -march=native, %s: %s\n' "$(basename "$SSM_PROGRAM")" $definition "$memory"
  done
fi
exit $failed
