"""Makes the data of spoken_words: ten words in many voices of espeak-ng, eight bits at 8 kHz.

    sudo apt-get install -y espeak-ng python3-numpy
    python3 examples/make_spoken_words.py words        # 3,200 clips, and 1,600

No voice of the training part speaks in the other one. A take has a speed, a pitch, a place in its
clip, a loudness and noise of its own, as drawn from a seed. What comes out are IDX files, the
format of MNIST: train-words-idx2-ubyte.gz, (clips, samples), 128 for silence;
train-labels-idx1-ubyte.gz, (clips); and the same two of "heldout". `--tones` makes a small set
without espeak-ng, two tones for each word, of which the tests of the example are made.
"""

import argparse
import gzip
import io
import pathlib
import struct
import subprocess
import wave

import numpy as np

WORDS = "zero one two three four five six seven eight nine".split()
ACCENTS = ["en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland"]
VOICES = {"train": ["m1", "m3", "m5", "m6", "f1", "f3", "f5", "Annie"],
          "heldout": ["m2", "m7", "f2", "f4"]}
RATE, SAMPLES = 8000, 5000


def spoken(word, voice, speed, pitch):
    """The word between its silences at 8 kHz, cut off at 3.4 kHz as on a telephone."""
    said = subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch),
                           "--stdout", word], check=True, stdout=subprocess.PIPE).stdout
    with wave.open(io.BytesIO(said)) as file:
        rate = file.getframerate()
        sound = np.frombuffer(file.readframes(10**8), "<i2") / 32768  # a pipe's length is unknown
    t = np.arange(-100, 101)
    low_pass = np.sinc(2 * 3400 / rate * t) * np.hanning(len(t) + 2)[1:-1]
    sound = np.convolve(sound, low_pass / low_pass.sum(), "same")
    loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
    sound = sound[loud[0]:loud[-1] + 1]
    times = np.arange(int(len(sound) * RATE / rate)) / RATE
    return np.interp(times, np.arange(len(sound)) / rate, sound)


def tones(word, draws):
    """Two tones that stand for a word, for half of the clip."""
    t = np.arange(SAMPLES // 20) / RATE
    return sum(np.sin(2 * np.pi * f * t + draws.uniform(0, 6)) for f in (300 + 90 * word,
                                                                       1900 - 110 * word))


def clip(sound, samples, noise, draws):
    """The sound somewhere in a clip, in noise that is so many decibels below it."""
    sound = sound[:samples] * 0.1 / np.sqrt(np.mean(sound[:samples]**2))
    start = draws.integers(0, samples - len(sound) + 1)
    whole = 0.1 * 10**(-noise / 20) * draws.standard_normal(samples)
    whole[start:start + len(sound)] += sound
    whole *= 10**(draws.uniform(-6, 6) / 20)
    return np.clip(np.rint(128 + 127 * whole), 0, 255).astype(np.uint8)


def save(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(header + array.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--takes", type=int, default=10, help="of each word and voice")
    parser.add_argument("--noise", type=float, default=20, help="decibels below the word")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tones", action="store_true", help="no words, but short tones")
    options = parser.parse_args()
    draws = np.random.default_rng(options.seed)
    options.directory.mkdir(parents=True, exist_ok=True)
    for part, variants in VOICES.items():
        voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in variants]
        if options.tones:
            voices = voices[:2]
        clips, labels = [], []
        for voice in voices:
            for word, name in enumerate(WORDS):
                for _ in range(options.takes):
                    speed, pitch = draws.integers(160, 241), draws.integers(30, 71)
                    sound = (tones(word, draws) if options.tones
                             else spoken(name, voice, speed, pitch))
                    clips.append(clip(sound, SAMPLES // (10 if options.tones else 1),
                                      options.noise, draws))
                    labels.append(word)
            print(f"{part}: {voice}", flush=True)
        order = draws.permutation(len(labels))
        save(options.directory / f"{part}-words-idx2-ubyte.gz", np.array(clips)[order])
        save(options.directory / f"{part}-labels-idx1-ubyte.gz", np.array(labels, np.uint8)[order])
        print(f"{part}: {len(labels)} clips of {clips[0].size} samples")


if __name__ == "__main__":
    main()
