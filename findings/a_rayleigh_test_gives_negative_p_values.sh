#!/usr/bin/env bash
# astropy.stats.rayleightest of astropy 8.0.2, which asks whether angles have a direction at all: of six to ten
# angles that agree well the p-value is negative. Its series in 1 / n, cut after the second term, falls below zero
# where the mean resultant length is near 1; the value is neither clipped nor warned of, and ten angles that
# agree better get the larger one. Tables of p < 0.05 do not show it. Taken together with others by Fisher's
# method (scipy 1.17.1), one such value makes the whole family nan, with NumPy's warning of a logarithm.
# Of the same angles pingouin 0.7.0, by another approximation, gives a number above zero.
# Seen: "eight angles within 0.8 radians: -4.84e-05, pingouin 4.9e-05", "negative for 6 to 10 equal angles",
# "ten angles within 0.2 radians: -3.2e-06, within 0.8: -8.04e-06", "Fisher's method: nan".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet astropy==8.0.2 pingouin==0.7.0 scipy==1.17.1 numpy==2.4.6
cat >"$folder/rayleigh.py" <<'PY'
import warnings

import numpy as np
from astropy.stats import rayleightest
from pingouin import circ_rayleigh
from scipy.stats import combine_pvalues

def astropys(angles):
    return float(rayleightest(angles))


warnings.simplefilter("error")
angles = np.linspace(0.6, 1.4, 8)
ours, theirs = astropys(angles), float(circ_rayleigh(angles)[1])
print(f"eight angles within 0.8 radians: {ours:.3g}, pingouin {theirs:.3g}")
counts = [n for n in range(2, 200) if astropys(np.full(n, 1.0)) < 0]
print(f"negative for {counts[0]} to {counts[-1]} equal angles")
near, far = astropys(np.linspace(0.9, 1.1, 10)), astropys(np.linspace(0.6, 1.4, 10))
print(f"ten angles within 0.2 radians: {near:.3g}, within 0.8: {far:.3g}")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    combined = combine_pvalues([ours, 0.5, 0.5], method="fisher").pvalue
print(f"Fisher's method: {combined}")
assert ours < 0 < theirs
assert counts == [6, 7, 8, 9, 10]
assert far < near < 0
assert np.isnan(combined)
PY
"$folder/venv/bin/python" "$folder/rayleigh.py"
