"""Reads the machine code of the kernels' fast loops, for sm_90, and refuses what would make them slow.

    python3 tests/cuda/machine_code.py [--nvcc PROGRAM] [--nvdisasm PROGRAM] [--eigen FOLDER] [LOOP ...]

Of each loop, in the way through it that a whole tile with all options takes:
- no global load after the first global store: as far as nvcc knows it might read what was stored, and
  would wait for it, one trip to memory after the other;
- instructions, and wavefronts of shared memory, for a unit of its work. Wavefronts are the least that
  the widths of the accesses allow: 128 bytes each, and 256 of a load that pairs of lanes share;
- registers, which say how many blocks share a multiprocessor, and no memory for those that spill
  beyond what is said below.
nvdisasm comes with the toolkit or with `pip install nvidia-cuda-nvdisasm`. Exits with 77 where it or
nvcc is missing.
"""
import argparse
import glob
import pathlib
import re
import shutil
import site
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
B = "Bfloat16"
# A loop is known by the exponentials (EX2) of a pass, with those of softplus and gate; inner loops are
# repeated until that many are met. Bounds are what nvcc 13.0 reaches and a little more.
LOOPS = {
    "selective_forward": dict(  # 32 steps of four states a lane, and eight outputs a thread
        header="selective_forward.hpp", kernel=f"SelectiveForward<{B}, float, false, 4>",
        exponentials=128 + 16, unit="state and step", units=128, instructions=9.6, wavefronts=1.9,
        registers=128),
    "selective_piece_ends": dict(
        header="selective_pieces.hpp", kernel=f"SelectivePieceEnds<{B}, float, false, 4>",
        exponentials=128 + 8, unit="state and step", units=128, instructions=6.7, wavefronts=1.0,
        registers=128),
    "selective_backward": dict(  # 16 steps, each with two exponentials but the last two
        header="selective_backward_tiles.hpp", kernel=f"SelectiveBackwardTiles<{B}>",
        exponentials=120 + 8, unit="state and step", units=64, instructions=27.0, wavefronts=6.5,
        registers=168, spilled=64),
    "causal_conv_forward": dict(  # eight steps of two channels
        header="causal_conv_runs.hpp", kernel=f"ConvForward<{B}, 4, 2>", exponentials=16,
        unit="output", units=16, instructions=19.0, wavefronts=0, registers=64),
    "causal_conv_backward": dict(  # four steps of two channels
        header="causal_conv_runs.hpp", kernel=f"ConvBackward<{B}, 4, 2>", exponentials=8,
        unit="output", units=8, instructions=45.0, wavefronts=0, registers=128),
}


def find_nvdisasm(beside):
    folders = [str(pathlib.Path(beside).parent)] if beside else []
    for packages in [*site.getsitepackages(), site.getusersitepackages()]:
        folders += glob.glob(packages + "/nvidia/*/bin")
    return shutil.which("nvdisasm") or next(filter(None, (shutil.which("nvdisasm", path=f)
                                                          for f in folders)), None)


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


def compile_kernel(o, folder, loop):
    """The listing of the one kernel, and what the compiler says of it."""
    source, code = folder / "kernel.cu", folder / "kernel.cubin"
    kernel = f"ssm::kernels::{loop['kernel'].replace(B, 'ssm::' + B)}"
    source.write_text(f'#include "launch.hpp"\n#include "{loop["header"]}"\n'
                      f"template __global__ void ssm::kernels::run<{kernel}>(\n"
                      f"    const __grid_constant__ {kernel});\n")
    report = run([o.nvcc, "-std=c++20", "-O3", "-arch=sm_90", "-DEIGEN_NO_CUDA", "-Xptxas=-v",
                  f"-I{ROOT}/include", f"-I{ROOT}/cuda", f"-I{o.eigen}", "-cubin", "-o", str(code),
                  str(source)])
    return run([o.nvdisasm, "-c", str(code)]), report


class Code:
    """One kernel: its instructions, and where they jump to."""

    def __init__(self, listing):
        self.text, labels = [], {}
        for line in listing.splitlines():
            label = re.match(r"(\.L\w+):", line)
            if label:
                labels[label[1]] = len(self.text)
            instruction = re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line)
            if instruction:
                self.text.append(instruction[1])
        self.jump = {}
        for at, text in enumerate(self.text):
            to = re.search(r"\bBRA.*`\((\.L\w+)\)", text)
            if to and to[1] in labels:
                self.jump[at] = labels[to[1]]
        ends = {}
        for at, to in self.jump.items():
            if to <= at:
                ends[to] = max(at, ends.get(to, 0))
        self.loops = sorted(ends.items())

    def is_exponential(self, at):
        return "MUFU.EX2" in self.text[at]

    def is_access(self, at):
        return bool(re.search(r"\b(LD|ST)[GS]\b", self.text[at]))

    def fullest_way(self, begin, end):
        """The way from begin to end, no jump back taken, with the most exponentials, then the most
        accesses of memory, then the fewest instructions."""
        best, following = {end + 1: (0, 0, 0)}, {}
        for at in range(end, begin - 1, -1):
            to, ways = self.jump.get(at), []
            if to is not None and at < to <= end:
                ways.append(to)
            conditional = self.text[at].startswith("@")
            if not (re.match(r"(BRA|EXIT|RET)\b", self.text[at]) and not conditional) or at == end:
                ways.append(at + 1)
            ways = [w for w in ways if w in best]
            if not ways:
                continue  # leaves the loop
            following[at] = max(ways, key=best.get)
            exponentials, accesses, length = best[following[at]]
            best[at] = (exponentials + self.is_exponential(at), accesses + self.is_access(at),
                        length - 1)
        way, at = [], begin
        while at in following:
            way.append(at)
            at = following[at]
        return way

    def pass_with(self, exponentials):
        """The innermost loop of which a pass meets so many exponentials: [(instruction, times)]."""
        found = None
        for begin, end in self.loops:
            way = self.fullest_way(begin, end)
            inner = [(b, e) for b, e in self.loops if begin < b and e < end and b in way]
            times = {at: 1 for at in way}
            once = sum(map(self.is_exponential, way))
            for b, e in inner:
                body = [at for at in way if b <= at <= e]
                own = sum(map(self.is_exponential, body))
                if own > 0 and once < exponentials and (exponentials - once) % own == 0:
                    for at in body:
                        times[at] = 1 + (exponentials - once) // own
                    once = exponentials
            if once == exponentials and (found is None or end - begin < found[0]):
                found = end - begin, [(at, times[at]) for at in way]
        return found and found[1]


def wavefronts(text):
    bits = 128 if ".128" in text else 64 if ".64" in text else 32
    if re.search(r"\bSTS\b", text):
        return bits // 32
    if re.search(r"\bLDS\b", text):
        return max(1, bits // 64)
    return 1 if re.search(r"\bSHFL\b", text) else 0


def check(name, loop, listing, report):
    """Prints what the loop takes; its faults."""
    code = Code(listing)
    way = code.pass_with(loop["exponentials"])
    if way is None:
        return [f"{name}: no loop has {loop['exponentials']} exponentials a pass"]
    faults = []
    registers = int(re.search(r"Used (\d+) registers", report)[1])
    spilled = int(re.search(r"(\d+) bytes spill loads", report)[1])
    took = dict(instructions=sum(n for _, n in way) / loop["units"],
                wavefronts=sum(n * wavefronts(code.text[at]) for at, n in way) / loop["units"],
                registers=registers, spilled=spilled)
    print(f"{name}: {took['instructions']:.2f} instructions and {took['wavefronts']:.2f} wavefronts "
          f"a {loop['unit']}, {registers} registers, {spilled} bytes spilled")
    for what, value in took.items():
        most = loop.get(what, 0)
        if not value <= most:
            faults.append(f"{name}: {what} are {value:.2f}, at most {most} were expected")
    stores = [i for i, (at, _) in enumerate(way) if re.search(r"\bSTG\b", code.text[at])]
    loads = [i for i, (at, _) in enumerate(way) if re.search(r"\bLDG\b", code.text[at])]
    late = [i for i in loads if stores and i > stores[0]]
    if not loads:
        faults.append(f"{name}: no global load was found")
    for i in late:
        faults.append(f"{name}: a load after a store: {code.text[way[i][0]]}")
    return faults


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("loops", nargs="*", help="of " + ", ".join(LOOPS))
    a.add_argument("--nvcc", default=shutil.which("nvcc") or shutil.which(
        "nvcc", path="/usr/local/cuda/bin"))
    a.add_argument("--nvdisasm")
    a.add_argument("--eigen", default="/usr/include/eigen3")
    o = a.parse_args()
    o.nvdisasm = o.nvdisasm or find_nvdisasm(o.nvcc)
    if not o.nvcc or not o.nvdisasm:
        print("nvcc or nvdisasm is not here: nothing was checked")
        sys.exit(77)
    faults = []
    for name in o.loops or LOOPS:
        with tempfile.TemporaryDirectory() as folder:
            faults += check(name, LOOPS[name], *compile_kernel(o, pathlib.Path(folder), LOOPS[name]))
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
