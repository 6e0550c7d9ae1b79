"""label.c from Python, by ctypes alone.

    make amalgamation
    cc -O3 -shared -fPIC -I. -Ibuild/amalgamation -include fusion_clip.h examples/label.c \\
        build/amalgamation/fusion_clip.c -lm -o label.so
    python3 examples/label.py ./label.so weights/tiny/clip picture.png "a cabin" "a dog"
"""
import ctypes
import sys

library, folder, picture, *texts = sys.argv[1:]
label = ctypes.CDLL(library).label
label.restype = ctypes.c_bool
words = (ctypes.c_char_p * len(texts))(*(t.encode() for t in texts))
cosines = (ctypes.c_double * len(texts))()
message = ctypes.create_string_buffer(1024)
if not label(folder.encode(), picture.encode(), words, len(texts), cosines, message):
    sys.exit(message.value.decode())
for text, cosine in zip(texts, cosines):
    print(f"{cosine:.4f}\t{text}")
