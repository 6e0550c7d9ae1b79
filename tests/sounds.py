"""Makes tests/sounds/ again: small WAV files as others write them, and resampled noise.

    python tests/sounds.py            NumPy and SciPy; for developers, the tests read only its files

Sample i of the files named after formats is (2654435761 i mod 2^32) - 2^31 of 2^31, cut to their
bits.  noise-A-to-B.wav is noise-A.wav resampled by the formula in wav.c, summed term by term.
"""
import os
import wave

import numpy as np
from scipy.io import wavfile

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sounds")


def path(name):
    return os.path.join(HERE, name + ".wav")


def formats():
    i = np.arange(2 * 50, dtype=np.uint64)
    v = ((i * 2654435761 % 2**32).astype(np.int64) - 2**31).reshape(50, 2)
    wavfile.write(path("u8"), 8000, ((v >> 24) + 128).astype(np.uint8))
    wavfile.write(path("s16"), 44100, (v >> 16).astype(np.int16))
    wavfile.write(path("s32"), 48000, v.astype(np.int32))
    wavfile.write(path("f32"), 22050, (v / 2**31).astype(np.float32))
    wavfile.write(path("f64"), 96000, v / 2**31)
    with wave.open(path("s24"), "wb") as out:
        out.setparams((2, 3, 48000, 0, "NONE", ""))
        out.writeframes(v.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())


def resampled(x, old, new):
    d = np.gcd(old, new)
    up, down = new // d, old // d
    scale = min(1, up / down)
    reach, f = 64 * max(up, down), 0.95 * scale
    k = np.arange(len(x))
    wide = np.arange(-(reach // up) - 1, reach // up + 2)

    def taps(t):                                           # t in units of 1 / up input samples
        inside = np.clip(1 - (t / reach) ** 2, 0, None)
        wave = np.sinc(f * t / up) * np.i0(10.06 * np.sqrt(inside))
        return np.where(abs(t) < reach, wave, 0)

    out = []
    for n in range(-(-len(x) * up // down)):
        sum_of_taps = taps(wide * up - n * down % up).sum()
        out.append((x * taps(k * up - n * down)).sum() / sum_of_taps)
    return np.array(out)


def noise(old, new, count):
    x = np.random.default_rng(old).integers(-20000, 20000, count).astype(np.int16)
    wavfile.write(path(f"noise-{old}"), old, x)
    y = resampled(x / 32768, old, new)
    wavfile.write(path(f"noise-{old}-to-{new}"), new, y.astype(np.float32))


os.makedirs(HERE, exist_ok=True)
formats()
noise(44100, 16000, 3000)
noise(48000, 16000, 2000)
noise(8000, 44101, 400)
noise(44101, 8000, 2000)
