#!/bin/bash
# Runs a program of MPI on two hosts that a slow and lossy network joins: namespaces of this machine
# with a link between them that holds every packet back and drops some, as CI and one machine have no
# other network. By netem where the kernel has it, else by a relay between two TUN devices.
#
#   sudo tests/mpi/two_hosts.sh <ranks> <program> [arguments]
#   DELAY=5 LOSS=1 SEED=1   milliseconds each way, percent of the packets, and which ones (the relay)
#
# Needs root, iproute2, util-linux, Open MPI's mpirun; Python 3 for the relay.
set -eu

readonly ranks=$1 program=$(realpath "$2")
shift 2
readonly delay=${DELAY:-5} loss=${LOSS:-1} seed=${SEED:-1}
readonly a=ssm-a-$$ b=ssm-b-$$ address_a=10.77.0.1 address_b=10.77.0.2 net=10.77.0.0/24
readonly room=$(mktemp -d)
relay=

finish() {
  if [ -n "$relay" ]; then
    kill -TERM "$relay" 2>/dev/null || true
    wait "$relay" 2>/dev/null || true
  else
    ip netns exec $a tc -s qdisc show dev ssm-a 2>/dev/null | sed -n 's/^ *Sent/link of a: sent/p' || true
    ip netns exec $b tc -s qdisc show dev ssm-b 2>/dev/null | sed -n 's/^ *Sent/link of b: sent/p' || true
  fi
  ip netns delete $a 2>/dev/null || true
  ip netns delete $b 2>/dev/null || true
  rm -rf "$room"
}
trap finish EXIT

# --- The hosts and their link ---------------------------------------------------------------------

ip netns add $a
ip netns add $b
if ip netns exec $a tc qdisc add dev lo root netem delay 0ms 2>/dev/null; then
  ip netns exec $a tc qdisc delete dev lo root
  ip -netns $a link add ssm-a type veth peer name ssm-b netns $b
  link="netem"
else
  "$(dirname "$0")/relay.py" ssm-a ssm-b "$delay" "$loss" "$seed" >"$room/ready" &
  relay=$!
  for _ in $(seq 100); do [ -s "$room/ready" ] || sleep 0.1; done
  ip link set ssm-a netns $a
  ip link set ssm-b netns $b
  link="a relay of TUN devices"
fi
up() { # namespace, device, address
  ip -netns "$1" link set lo up
  ip -netns "$1" address add "$3/24" dev "$2"
  ip -netns "$1" link set "$2" up
  if [ -z "$relay" ]; then
    ip netns exec "$1" tc qdisc add dev "$2" root netem delay "${delay}ms" loss "$loss%"
  fi
}
up $a ssm-a $address_a
up $b ssm-b $address_b

# --- The job ----------------------------------------------------------------------------------------

# What mpirun calls instead of ssh: host, command.
cat >"$room/agent" <<AGENT
#!/bin/bash
shift
exec ip netns exec $b unshare --uts sh -c "hostname $b; \$*"
AGENT
chmod +x "$room/agent"

echo "two hosts, $delay ms and $loss% of packets lost each way, by $link"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
time ip netns exec $a unshare --uts sh -c "hostname $a; exec \"\$@\"" sh \
  mpirun --mca plm_rsh_agent "$room/agent" --mca orte_keep_fqdn_hostnames 1 \
  -host "$address_a:$(((ranks + 1) / 2)),$address_b:$((ranks / 2))" -n "$ranks" \
  --map-by slot --bind-to none --oversubscribe \
  --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include $net --mca oob_tcp_if_include $net \
  "$program" "$@"
