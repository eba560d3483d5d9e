"""Counts the instructions of each loop with exponentials in a kernel's machine code.

nvcc -std=c++20 -O3 -arch=sm_90 -DEIGEN_NO_CUDA -Iinclude -I/usr/include/eigen3 -cubin \
    -o scan.cubin cuda/selective_scan_16bit.cu
nvdisasm -c scan.cubin > scan.sass
python3 bench/cuda_instructions.py scan.sass 'SelectiveBackward.*Bfloat16.*Lb0ELi4'

Where a loop branches, the way with the most exponentials is counted, then the one with the most
accesses of memory, then the shortest: a whole tile with all options. An inner loop counts as one
pass. A loop that is unrolled shows as many exponentials as a pass of it takes.
"""
import re
import sys


def fullest_pass(code, labels, begin, end):
    """(exponentials, accesses, -instructions) of the fullest way from begin to end."""
    best = {end + 1: (0, 0, 0)}
    for at in range(end, begin - 1, -1):
        instruction = code[at]
        jump = re.search(r"BRA.*`\((\.L\w+)\)", instruction)
        ways = []
        if jump and at < labels.get(jump[1], -1) <= end:
            ways.append(best[labels[jump[1]]])
        if not re.match(r"BRA\b", instruction) or at == end:
            ways.append(best[at + 1])
        elif not ways:
            ways.append((-1, 0, 0))  # leaves the loop
        exponentials, accesses, length = max(ways)
        best[at] = (exponentials + ("MUFU.EX2" in instruction),
                    accesses + bool(re.search(r"\b(LD|ST)[GS]?\b", instruction)), length - 1)
    return best[begin]


kernels, name = {}, None
for line in open(sys.argv[1], errors="replace"):
    start = re.match(r"\.text\.(\S+):", line)
    if start:
        name = start[1]
        kernels[name] = []
    elif name:
        kernels[name].append(line.strip())

for name, lines in kernels.items():
    if not re.search(sys.argv[2], name):
        continue
    print(name)
    labels, code = {}, []
    for line in lines:
        label = re.match(r"(\.L\w+):", line)
        if label:
            labels[label[1]] = len(code)
        instruction = re.match(r"/\*[0-9a-f]+\*/\s+(.*?);", line)
        if instruction:
            code.append(instruction[1])
    for end, instruction in enumerate(code):
        jump = re.search(r"BRA.*`\((\.L\w+)\)", instruction)
        if jump and labels.get(jump[1], end + 1) <= end:
            exponentials, _, length = fullest_pass(code, labels, labels[jump[1]], end)
            if exponentials > 0:
                print(f"  {-length:5} instructions, {exponentials:3} exponentials, "
                      f"{-length / exponentials:.2f} each")
