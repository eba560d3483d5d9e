#!/usr/bin/env python3
"""A link between two TUN devices that holds every packet back and drops some at random.

relay.py <device> <device> <milliseconds> <percent lost> <seed>: makes the devices, says "ready", and
carries packets until it is told to end; then it says what it carried on standard error.
"""

import fcntl
import heapq
import os
import random
import select
import signal
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def open_tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def main():
    names, delay, loss = sys.argv[1:3], float(sys.argv[3]) / 1000, float(sys.argv[4]) / 100
    chance = random.Random(int(sys.argv[5]))
    devices = [open_tun(name) for name in names]
    other = {devices[0]: devices[1], devices[1]: devices[0]}
    carried, octets, dropped = 0, 0, 0
    on_the_way = []  # (when it arrives, number, where, packet)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    print("ready", flush=True)
    while not ended:
        wait = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else 0.2
        for device in select.select(devices, [], [], wait)[0]:
            try:
                packet = os.read(device, 65536)
            except OSError:  # the device is not up yet
                continue
            if chance.random() < loss:
                dropped += 1
                continue
            carried += 1
            octets += len(packet)
            heapq.heappush(
                on_the_way, (time.monotonic() + delay, carried, other[device], packet))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(on_the_way)
            try:
                os.write(device, packet)
            except OSError:
                dropped += 1
    print(f"the link carried {carried} packets, {octets} bytes, and dropped {dropped}",
          file=sys.stderr)


main()
