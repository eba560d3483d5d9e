"""Writes tests/golden/cuda_registers.csv from what nvcc says of the kernels: run it where it is there
whenever a kernel changes.

cmake -B build-report -DSSM_CUDA=ON -DSSM_CUDA_REPORT=ON -DSSM_BUILD_TESTS=OFF -DSSM_BUILD_BENCH=OFF \
    -DSSM_BUILD_EXAMPLES=OFF -DSSM_CUDA_ARCHITECTURES='80-real;89-real;90-real;100-real;120-real'
cmake --build build-report --target ssm_cuda --clean-first -- -v 2>&1 |
    python3 tests/golden/make_cuda_registers.py > tests/golden/cuda_registers.csv
"""
import re
import subprocess
import sys

architectures = [80, 89, 90, 100, 120]
found, kernel, architecture, spilled = {}, None, 0, 0
for line in sys.stdin:
    start = re.search(r"Compiling entry function '(\S+)' for 'sm_(\d+)a?'", line)
    if start:
        kernel, architecture, spilled = start[1], int(start[2]), 0
    spills = re.search(r"(\d+) bytes spill stores", line)
    if spills:
        spilled = int(spills[1])
    used = re.search(r"Used (\d+) registers", line)
    if used and kernel:
        found.setdefault(kernel, {})[architecture] = used[1] + (f"+{spilled}" if spilled else "")
        kernel = None

names = subprocess.run(["c++filt"], input="\n".join(found), capture_output=True, text=True,
                       check=True).stdout.splitlines()
print("# Registers of a thread, and bytes of them that a kernel spills, as nvcc compiles it: written by")
print("# tests/golden/make_cuda_registers.py.")
print("kernel;" + ";".join(f"sm_{a}" for a in architectures))
rows = []
for name, of in zip(names, found.values()):
    argument = re.fullmatch(r"void ssm::kernels::run<(.*?) ?>\((\1)\)", name)
    if not argument:
        sys.exit(f"not a kernel of ssm::cuda: {name}")
    missing = [a for a in architectures if a not in of]
    if missing:
        sys.exit(f"{argument[1]} was not compiled for {missing}")
    rows.append(";".join([argument[1].strip()] + [of[a] for a in architectures]))
print("\n".join(sorted(set(rows))))
