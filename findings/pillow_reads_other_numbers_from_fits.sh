#!/usr/bin/env bash
# Pillow 13.0.0 opens FITS images that Astropy 7.2.0 has written, and gives other numbers, without a word:
#   - unsigned 16-bit values, which FITS stores with BZERO = 32768, come out shifted by it (0 is 32768);
#   - signed 16-bit values come out unsigned (-5 is 65531);
#   - a RICE-compressed image of 0 to 63 comes out as 8-bit numbers that are not in it.
# Float images are right. Rows are upside down in all, as FITS counts them from below. Whoever takes
# Pillow's list of formats for "formats that can be trained on" learns from other pictures than were stored.
# Seen: "unsigned I;16 off by 32768", "signed I;16 -5 is 65531", "float F right", "compressed L wrong".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 astropy==7.2.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PY'
import numpy as np
from astropy.io import fits
from PIL import Image


def seen(name, hdu):
    hdu.writeto(name)
    with Image.open(name) as picture:
        return picture.mode, np.asarray(picture)[::-1].astype(np.float64)


unsigned = np.array([[0, 1, 255, 32768], [40000, 65535, 12, 7]], np.uint16)
mode, found = seen("unsigned.fits", fits.PrimaryHDU(unsigned))
assert (fits.getdata("unsigned.fits") == unsigned).all()
assert mode == "I;16" and (abs(found - unsigned) == 32768).all(), found
print("unsigned", mode, "off by 32768")

signed = np.array([[0, -5, 300], [7, 8, 9]], np.int16)
mode, found = seen("signed.fits", fits.PrimaryHDU(signed))
assert mode == "I;16" and found[0].tolist() == [0, 65531, 300], found
print("signed", mode, "-5 is", int(found[0, 1]))

real = np.array([[1.5, 2.5], [3.5, 4.5]], np.float32)
mode, found = seen("float.fits", fits.PrimaryHDU(real))
assert mode == "F" and (found == real).all(), found
print("float", mode, "right")

ramp = np.arange(64, dtype=np.int16).reshape(8, 8)
mode, found = seen("compressed.fits", fits.CompImageHDU(ramp, compression_type="RICE_1"))
assert (fits.getdata("compressed.fits") == ramp).all()
assert mode == "L" and found.shape == ramp.shape and (found != ramp).mean() > 0.5, found
print("compressed", mode, "wrong")
PY
