"""Pillow's times for the sizes of benches/pictures.rs: the median of 31 calls each, in milliseconds."""
import statistics
import time

import numpy
import PIL
from PIL import Image

print("Pillow", PIL.__version__)
for start, end, resample in [(1024, 504, Image.BICUBIC), (2048, 512, Image.LANCZOS), (224, 448, Image.BICUBIC)]:
    values = (numpy.arange(start * start * 3, dtype=numpy.uint64) * 7919 % 251).astype(numpy.uint8)
    picture = Image.fromarray(values.reshape(start, start, 3))
    times = []
    for _ in range(31):
        clock = time.perf_counter()
        picture.resize((end, end), resample)
        times.append(1e3 * (time.perf_counter() - clock))
    print(f"{start} -> {end}: {statistics.median(times):.2f} ms")
