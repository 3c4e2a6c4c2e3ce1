"""What VDM's paper argues with, tried again on moving digits.

    a   reconstruction guidance against replacement, for films four times as long
    b   0, 4 or 8 independent images beside each clip in training
    c   weight of classifier-free guidance: fidelity against diversity
    d   long films by extension at frameskip 1, or frameskip 4 filled in by frameskip 1
    e   ancestral sampling against Langevin corrections, at equal network calls

    python -m benchmarks.vdm_arguments --out=OUT a b c d e

Several seeds of one budget each: of parameters, data order and sampling noise. What is
in OUT is not made again, so that training and sampling may be done on another machine
(`--stop_after=sample`) than measuring.
"""
