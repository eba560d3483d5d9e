#!/usr/bin/env python3
"""Trains tests/golden/tokenizer/tokenizer.json, and writes texts with the tokens that the Python
package `tokenizers` gives for them to tests/golden/tokenizer/expected.json.

  make_tokenizer.py                             the files
  make_tokenizer.py compare FILE N PROGRAM...   N random texts by `tokenizers` and by a program that
                                                reads a JSON text a line and prints a list of tokens
                                                a line: mamba_lm tokenize --json --model FILE
  make_tokenizer.py speed FILE TEXT             what `tokenizers` reads in a second, as
                                                mamba_lm tokenize --model FILE < TEXT says it

Marks that this version of `tokenizers` does not know yet, as its Unicode is older, are left out.
"""

import json
import pathlib
import random
import subprocess
import sys
import time
import unicodedata

from tokenizers import (AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

root = pathlib.Path(__file__).parents[2]
folder = root / "tests/golden/tokenizer"

assigned = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")]
blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x590, 0x700), (0x900, 0xA00),
          (0xE00, 0xE80), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1100, 0x1200),
          (0x1F300, 0x1FAF0)]
parts = ["'s", "'re", "'LL", "'", "''", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0",
         "\u3000", "\u2028", "\x85", "<|endoftext|>", "<|x|>", "<|pad|>", "e\u0301t\u00e9",
         "\u00e9", "e\u0301", "\u1100\u1161\u11a8", "\uac00\u11a8", "\U0001f469\u200d\U0001f4bb",
         "\U0001f1e9\U0001f1ea", "12345", "\u0bb5", "\u0661\u0662", "don't", "I'll", "\x00",
         "\x7f", "\ufeff", "\u0301", "\u0327\u0301", "\u212b", "\u2126", "\ufb01", "\u0344",
         "\u0958", "\U0001d15e", "the ", "and", "Foo", "BAR ", "x=1; ", "  return ", "//", "}\n"]


def known_to_tokenizers():
    nfc = normalizers.NFC()

    def agrees(c):
        texts = ("a" + chr(c) + "\u0316", "a\u0301" + chr(c), "a" + chr(c) + "\u0334", chr(c))
        return all(nfc.normalize_str(x) == unicodedata.normalize("NFC", x) for x in texts)

    return [c for c in assigned
            if not (unicodedata.combining(chr(c)) or unicodedata.decomposition(chr(c))) or agrees(c)]


class Texts:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.chars = known_to_tokenizers()
        self.known = set(self.chars)
        self.marks = [c for c in self.chars if unicodedata.combining(chr(c))]
        self.composed = [c for c in self.chars if unicodedata.decomposition(chr(c))]
        self.files = [(root / f).read_text() for f in ("README.md", "examples/README.md",
                                                       "include/ssm/io/tokenizer.hpp")]

    def chars_of(self, codes, most):
        return "".join(chr(self.random.choice(codes))
                       for _ in range(self.random.randint(0, most)))

    def mixed(self):
        r, text = self.random, ""
        for _ in range(r.randint(1, 12)):
            kind = r.random()
            if kind < 0.5:
                text += r.choice(parts)
            elif kind < 0.75:
                first, last = r.choice(blocks)
                text += "".join(chr(c) for c in (r.randrange(first, last) for _ in range(5))
                                if c in self.known)
            elif kind < 0.85:
                text += self.chars_of(self.chars, 2)
            else:
                text += chr(r.choice(self.composed)) + self.chars_of(self.marks, 4)
        return text

    def __call__(self):
        r, kind = self.random, self.random.random()
        if kind < 0.6:
            return self.mixed()
        if kind < 0.8:
            text = r.choice(self.files)
            begin = r.randrange(len(text))
            return text[begin:begin + r.randint(1, 200)]
        if kind < 0.9:
            return self.chars_of(self.chars, 20)
        return bytes(r.randrange(256) for _ in range(r.randint(1, 30))).decode("utf-8", "replace")


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(Texts(1).files[1:2] + [Texts(2)() for _ in range(300)], trainer)
    tokenizer.add_special_tokens([AddedToken("<|pad|>"),
                                  AddedToken("<|x|>", lstrip=True, rstrip=True)])
    tokenizer.add_tokens([AddedToken(" " * n) for n in range(2, 8)]
                         + [AddedToken("e\u0301t\u00e9")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|pad|> $A <|endoftext|>",
        special_tokens=[("<|pad|>", tokenizer.token_to_id("<|pad|>")), ("<|endoftext|>", 0)])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = Texts(3)
    rows = []
    for text in ["", " ", "  a", "\n\n x"] + [texts() for _ in range(200)]:
        encoded = tokenizer.encode(text)
        decoded = tokenizer.decode(encoded.ids)
        if tokenizer.token_to_id("e\u0301t\u00e9") in encoded.ids:
            decoded = None  # the package takes the characters of added tokens for those of bytes
        rows.append({"text": text, "tokens": encoded.ids, "decoded": decoded})
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    (folder / "expected.json").write_text("[\n" + lines + "\n]\n")


def compare(path, count, program):
    tokenizer, texts = Tokenizer.from_file(path), Texts(time.time_ns())
    texts = [texts() for _ in range(count)]
    given = "".join(json.dumps(text) + "\n" for text in texts)
    ran = subprocess.run(program, input=given, capture_output=True, text=True, check=True)
    got = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(got) == count, ran.stderr
    wrong = 0
    for text, ours, theirs in zip(texts, got, tokenizer.encode_batch(texts)):
        if ours != theirs.ids:
            wrong += 1
            if wrong < 10:
                print(repr(text), ours, theirs.ids, sep="\n  ")
    print(f"{count} texts, {wrong} differ")
    return wrong


def speed(path, text_file):
    tokenizer, text = Tokenizer.from_file(path), pathlib.Path(text_file).read_text()
    begin = time.perf_counter()
    count = len(tokenizer.encode(text).ids)
    seconds = time.perf_counter() - begin
    print(f"{count} tokens, {len(text.encode()) / seconds / 1e6:.2f} MB/s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["compare"]:
        sys.exit(compare(sys.argv[2], int(sys.argv[3]), sys.argv[4:]) > 0)
    elif sys.argv[1:2] == ["speed"]:
        speed(*sys.argv[2:])
    else:
        train()
