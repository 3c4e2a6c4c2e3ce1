"""Repeats the comparisons of VDM's paper on moving digits.

    a   reconstruction guidance against replacement, for videos four times as long
    b   0, 4 or 8 independent images beside each clip in training
    c   weight of classifier-free guidance: fidelity against diversity
    d   long videos by extension at frameskip 1, or frameskip 4 filled in by frameskip 1
    e   ancestral sampling against Langevin corrections, at equal network calls

    python -m benchmarks.vdm_arguments --out=OUT a b c d e

Each has several seeds (of parameters, data order and sampling noise) of equal budget.
Finished parts in OUT are kept, so that training and sampling may be done on another
machine (`--stop_after=sample`) than measuring.
"""
