"""Draws fields of the two-dimensional XY model on a torus.

Phases theta on the sites of an L x L lattice with periodic boundaries have the density

    p(theta) ~ exp(-H / T),   H = -sum over bonds <x, y> of cos(theta_x - theta_y)

(Kosterlitz and Thouless 1973). Given its four neighbours, whose unit vectors add up to h, a phase
is von Mises about the direction of h with concentration |h| / T: a *heat bath* draws it anew,
exactly. An *over-relaxation* mirrors it at that direction, which leaves the energy as it is and
carries phases far: with it fields decorrelate in about xi^1.2 sweeps in place of xi^2 (Gupta,
DeLapp, Batrouni, Fox, Baillie and Apostolakis 1988). Both keep p. The sites of one colour of a
checkerboard have no bond among each other, and are updated at once, in many chains.

A chain begins with equal phases, forgets them in `burn_in` rounds of one heat bath and
`OVER_RELAXATIONS` mirrorings, and gives a field every `SPACING` rounds. Between neighbouring fields
of a chain of 32 x 32 the autocorrelation, measured over 400 fields of 100 chains, of the energy is
below 0.02 at T = 0.8 and at T = 1.0; of the magnetisation |m|, the slowest of all, 0.02 at T = 0.8,
and 0.06 at T = 1.0. Every field is turned by an angle of its own, as p does not know from where
angles are counted.
"""

import math

import numpy as np
from numpy.typing import NDArray

FieldArray = NDArray[np.float32]  # (N, L, L), radians in [-pi, pi)

OVER_RELAXATIONS = 4
SPACING = 16
_BURN_IN = 200  # of a lattice of up to 32 x 32

_SMALL = np.float32(1e-20)  # a field h of no direction
_Vectors = NDArray[np.complex64]


class XyChains:
    """Independent Markov chains of fields, advanced together.

    Args:
        size: L, even.
        temperature: T.
        chains: how many.
        generator: of all draws.

    Attributes:
        vectors: (L L, chains) e^{i theta}; the sites of even colour, then those of odd.

    Raises:
        ValueError: if L is odd: around the torus, its colours would meet.
    """

    def __init__(
        self, size: int, temperature: float, chains: int, generator: np.random.Generator
    ) -> None:
        if size % 2:
            raise ValueError(f"the lattice needs an even side, got {size}")
        self.size, self.temperature = size, temperature
        self._generator = generator
        self.vectors: _Vectors = np.ones((size * size, chains), np.complex64)
        rows, columns = np.indices((size, size)).reshape(2, -1)
        # Sorted by colour, so that each is one block of memory.
        order = np.argsort((rows + columns) % 2, kind="stable")
        self._place = np.empty(size * size, np.intp)  # of a site, row by row, in `vectors`
        self._place[order] = np.arange(size * size)
        sites = np.arange(size * size).reshape(size, size)
        self._neighbours = [
            self._place[np.roll(sites, shift, axis).ravel()[order]]
            for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1))
        ]
        half = size * size // 2
        self._colours = (slice(0, half), slice(half, 2 * half))

    def advance(self, rounds: int) -> None:
        """One heat bath and `OVER_RELAXATIONS` mirrorings of all sites, so many times."""
        for _ in range(rounds):
            self.heat_bath()
            for _ in range(OVER_RELAXATIONS):
                self.over_relax()

    def heat_bath(self) -> None:
        """Draw every phase anew given its neighbours."""
        for colour in self._colours:
            self.draw_colour(colour)

    def draw_colour(self, colour: slice) -> None:
        """Draw the phases of one colour given those of the other."""
        direction, length = self._field(colour)
        drawn = self._generator.vonmises(0.0, length / self.temperature)
        self.vectors[colour] = direction * np.exp(1j * drawn).astype(np.complex64)

    def over_relax(self) -> None:
        """Mirror every phase at the direction of its neighbours' sum."""
        for colour in self._colours:
            self.mirror_colour(colour)

    def mirror_colour(self, colour: slice) -> None:
        """Mirror the phases of one colour at the directions that those of the other give."""
        direction, _ = self._field(colour)
        mirrored = direction * direction * self.vectors[colour].conj()
        self.vectors[colour] = mirrored / np.abs(mirrored)  # or rounding adds up

    def fields(self) -> FieldArray:
        """The phases now, (chains, L, L), each field turned by an angle of its own."""
        turns = np.exp(2j * math.pi * self._generator.random(self.vectors.shape[1]))
        phases = np.angle(self.vectors * turns.astype(np.complex64))[self._place]
        # Rounding knows +pi, which is -pi.
        phases = np.where(phases >= np.float32(math.pi), np.float32(-math.pi), phases)
        return np.ascontiguousarray(phases.T.reshape(-1, self.size, self.size), np.float32)

    def energies(self) -> NDArray[np.float64]:
        """H over the number of sites, of each chain."""
        total = np.zeros(self.vectors.shape[1])
        even = self._colours[0]  # every bond has one end there
        sums = sum(self.vectors[each[even]] for each in self._neighbours)
        total -= (self.vectors[even].conj() * sums).real.sum(axis=0)
        return np.asarray(total / len(self.vectors))

    def _field(self, colour: slice) -> tuple[_Vectors, NDArray[np.float32]]:
        """Direction and length of the neighbours' sum; any direction where there is none."""
        one, two, three, four = (self.vectors[each[colour]] for each in self._neighbours)
        total = one + two + three + four
        length = np.abs(total)
        direction = np.where(length > _SMALL, total / np.maximum(length, _SMALL), np.complex64(1))
        return direction.astype(np.complex64), length


def burn_in(size: int) -> int:
    """Rounds after which a chain has forgotten its start: at least ten times what |m| needs.

    At T = 1.0, 32 x 32, the correlation of |m| falls to 0.38 in four rounds; on larger lattices the
    time grows no faster than L^1.2.
    """
    return math.ceil(_BURN_IN * math.pow(max(1.0, size / 32), 1.2))


def draw_fields(
    size: int, temperature: float, chains: int, each: int, generator: np.random.Generator
) -> FieldArray:
    """Equilibrium fields of some chains: (chains, each, L, L), in the order they were made."""
    moving = XyChains(size, temperature, chains, generator)
    moving.advance(burn_in(size))
    found = np.empty((chains, each, size, size), np.float32)
    for place in range(each):
        moving.advance(SPACING)
        found[:, place] = moving.fields()
    return found
