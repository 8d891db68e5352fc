#!/usr/bin/env bash
# Gauss-Legendre weights of NumPy 2.4.6 (polynomial.legendre.leggauss) and SciPy 1.17.1
# (special.roots_legendre), against 40-digit arithmetic: the nodes are right to the last digit and the
# weights sum to 2 to the last digit, yet the weights nearest to -1 and 1 are right to ten digits only at 255 points
# (NumPy 7e-11, SciPy 2e-10 relative; 1e-12 at 64). SciPy's are the worse ones. On the sphere those are the rings
# at the poles: a check that sums weights, or integrates low degrees, sees nothing of it.
# Seen: "64 numpy 1.3e-12", "64 scipy 1.1e-12", "255 numpy 7.5e-11", "255 scipy 2.3e-10".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 scipy==1.17.1 mpmath==1.3.0
"$folder/venv/bin/python" - <<'PY'
import mpmath
import numpy as np
from scipy.special import roots_legendre

mpmath.mp.dps = 40
NUMPY = np.polynomial.legendre.leggauss


def legendre(count, x):
    """P_n(x) and its derivative, by the recurrence."""
    before, value = mpmath.mpf(1), x
    for k in range(2, count + 1):
        before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
    return value, count * (before - x * value) / (1 - x * x)


def exact(count):
    """The upper half of nodes and weights."""
    found = []
    for start in NUMPY(count)[0][count // 2 :]:
        x = mpmath.mpf(float(start))
        for _ in range(4):
            value, slope = legendre(count, x)
            x -= value / slope
        slope = legendre(count, x)[1]
        found.append((x, 2 / ((1 - x * x) * slope * slope)))
    return found


expected = {(64, "numpy"): 1.3e-12, (64, "scipy"): 1.1e-12, (255, "numpy"): 7.5e-11, (255, "scipy"): 2.3e-10}
for count in (64, 255):
    right = exact(count)
    for name, rule in (("numpy", NUMPY), ("scipy", roots_legendre)):
        nodes, weights = (each[count // 2 :] for each in rule(count))
        off = max(abs(float(x) - y) for x, (y, _) in zip(nodes, right))
        lost = [float(abs(mpmath.mpf(float(w)) - y) / y) for w, (_, y) in zip(weights, right)]
        assert off < 2e-16, off
        assert abs(sum(rule(count)[1]) - 2) < 1e-15
        assert lost.index(max(lost)) > len(lost) - 4, "the worst one is at the end"
        assert 0.3 < max(lost) / expected[count, name] < 3, max(lost)
        print(count, name, f"{max(lost):.1e}")
PY
