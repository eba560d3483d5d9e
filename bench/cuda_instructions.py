"""Counts the instructions of each loop with exponentials in a kernel's machine code.

nvcc -std=c++20 -O3 -arch=sm_90 -DEIGEN_NO_CUDA -Iinclude -I/usr/include/eigen3 -cubin \
    -o scan.cubin cuda/selective_scan_16bit.cu
nvdisasm -c scan.cubin > scan.sass
python3 bench/cuda_instructions.py scan.sass 'SelectiveForward.*Bfloat16.*Lb0ELi4'

A loop that is unrolled shows as many exponentials as a pass of it takes.
"""
import re
import sys

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
            body = code[labels[jump[1]]:end + 1]
            exponentials = sum("MUFU.EX2" in i for i in body)
            if exponentials:
                print(f"  {len(body):5} instructions, {exponentials:3} exponentials, "
                      f"{len(body) / exponentials:.2f} each")
