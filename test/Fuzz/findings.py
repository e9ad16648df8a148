# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What is said of a log, and whose code it is attributed to."""

import fuzzers

DAMAGED = """\
#2799 REDUCE cov: 6211 ft: 17909 corp: 418/543Kb exec/s: 933 rss: 773Mb
AddressSanitizer: CHECK failed: asan_allocator.cpp:191 "((old)) == ((kMagic))" \
(0x7c4929497c80, 0xcc6e96b9cc6e96b9) (tid=3209)
    #0 0x55b4c0a6e1c1 in __asan::CheckUnwind() (/tmp/kv-fuzz+0xf591c1)
    #1 0x55b4c09c35b4 in __sanitizer_purge_allocator (/tmp/kv-fuzz+0xeae5b4)
    #2 0x55b4c0b8e10d in fuzzer::FuzzerDriver(int*) (/tmp/kv-fuzz+0x107910d)
    #3 0x55b4c0a9f68e in main (/tmp/kv-fuzz+0xf8a68e)
"""
LEFT = "kv-fuzz: finding: {} leaves invalid IR: {}\n"


def said(log, status=1):
    what, top = fuzzers.signature_of(log, status)
    theirs = fuzzers.is_upstream(what, log, fuzzers.upstream_signatures())
    return what, top, theirs


def main():
    assert said(DAMAGED) == (
        'CHECK failed: asan_allocator.cpp:191 "((old)) == ((kMagic))"', "main", False)
    assert said("#2799 REDUCE\n", -9) == (
        "ended without a word, with status -9", "?", False)
    contiguous = "'memref.collapse_shape' op reassociation indices must be contiguous"
    assert said(LEFT.format("OneShotBufferizePass", contiguous))[2]
    assert not said(LEFT.format("RaisePass", contiguous))[2]


if __name__ == "__main__":
    main()
