"""Every process passes the shipped conformance suite. A new one joins by adding its cases."""

import inspect
from typing import ClassVar

import pytest

from kod_bench.diffusion import (
    DDPM,
    EDM,
    PROCESSES,
    BlurringDiffusion,
    FlowMatching,
    HeatDissipation,
    KuramotoDiffusion,
    ScoreSDE,
    SphereDiffusion,
    TorusFlow,
    VarianceExploding,
    WrappedDiffusion,
    make_process,
    process_parameters,
)
from kod_bench.diffusion.spherical_harmonics import sphere_grid
from kod_bench.testing import ProcessConformance

SMALL = {"pool_size": 12, "calibration_chains": 64}


class TestDDPM(ProcessConformance):
    process_class = DDPM
    cases: ClassVar = {
        "ddpm": {},
        "ddpm-analytic": {"variance": "analytic"},
        "ddpm-cosine": {"schedule": "cosine", "variance": "forward"},
        "ddpm-circle": {"reading": "circle"},
        "ddpm-angle": {"reading": "angle"},
    }


class TestVarianceExploding(ProcessConformance):
    process_class = VarianceExploding
    cases: ClassVar = {
        "ve": {},
        "ve-circle": {"reading": "circle"},
        "ve-angle": {"reading": "angle"},
    }


class TestEDM(ProcessConformance):
    process_class = EDM
    cases: ClassVar = {
        "edm": {},
        "edm-circle": {"reading": "circle"},
        "edm-angle": {"reading": "angle"},
    }


class TestScoreSDE(ProcessConformance):
    process_class = ScoreSDE
    cases: ClassVar = {
        "sgm-vp": {},
        "sgm-ve": {"kernel": "ve"},
        "sgm-clamped": {"clamped": True, "corrector_snr": 0.05},
        "sgm-circle": {"reading": "circle"},
        "sgm-angle": {"reading": "angle"},
    }
    stochastic = (
        "reverse-diffusion",
        "euler-maruyama",
        "predictor-corrector",
        "ancestral",
        "restart",
    )


class TestFlowMatching(ProcessConformance):
    process_class = FlowMatching
    cases: ClassVar = {
        "flow-matching": {},
        "flow-matching-logit-normal": {"times": "logit-normal", "clamped": True},
        "flow-matching-circle": {"reading": "circle", "clamped": True},
        "flow-matching-angle": {"reading": "angle"},
    }
    stochastic = ()


class TestBlurringDiffusion(ProcessConformance):
    process_class = BlurringDiffusion
    cases: ClassVar = {
        "blurring": {},
        "blurring-none": {"blur_max": 0.0},
        "blurring-circle": {"reading": "circle"},
        "blurring-angle": {"reading": "angle"},
    }

    def test_it_says_what_it_is(self, process, shape, steps):
        """Without blur it is a control."""
        super().test_it_says_what_it_is(process, shape, steps)
        assert process.kind == ("structured" if process.blur_max else "control")


class TestHeatDissipation(ProcessConformance):
    process_class = HeatDissipation
    cases: ClassVar = {
        "heat": {"prior_images": 64},
        "heat-circle": {"prior_images": 64, "reading": "circle"},
        "heat-angle": {"prior_images": 64, "reading": "angle"},
    }


class TestKuramotoDiffusion(ProcessConformance):
    process_class = KuramotoDiffusion
    cases: ClassVar = {
        "kuramoto-global": {"coupling": "global", **SMALL},
        "kuramoto-local": {"coupling": "local", **SMALL},
        "kuramoto-none": {"coupling": "none", "variance": "analytic", **SMALL},
        "kuramoto-gaussian": {
            "coupling": "local",
            "neighbourhood": "gaussian",
            "neighbourhood_radius": 2,
            "total_time": 8.0,
            "coupling_ratio": 0.2,
            "reference_phase": 0.7,
            "ramp": "cosine",
            **SMALL,
        },
        "kuramoto-memory": {"coupling": "local", "memory": 4, **SMALL},
        "kuramoto-published": {
            "coupling": "global",
            "target": "one-step",
            "loss_weight": "released",
            "variance": "forward",
            "final_noise": True,
            **SMALL,
        },
        "kuramoto-angle": {"coupling": "local", "reading": "angle", **SMALL},
        "kuramoto-angle-global": {"coupling": "global", "reading": "angle", **SMALL},
        "kuramoto-angle-none": {"coupling": "none", "reading": "angle", **SMALL},
        "kuramoto-conditional": {"target": "conditional", **SMALL},
        "kuramoto-strides": {
            "coupling": "local",
            "chain_steps": 3,
            "loss_weight": "likelihood",
            **SMALL,
        },
    }


class TestWrappedDiffusion(ProcessConformance):
    process_class = WrappedDiffusion
    far: ClassVar = (-0.5, 0.5)
    cases: ClassVar = {
        "wrapped": {},
        "wrapped-angle": {"reading": "angle", "level_weight": "unit", "variance": "forward"},
        "wrapped-geometric": {"rho": 5.0, "sigma_max": 4.0, "level_weight": "likelihood"},
        "wrapped-analytic": {"phase_margin": 0.5, "variance": "analytic"},
    }


class TestTorusFlow(ProcessConformance):
    process_class = TorusFlow
    far: ClassVar = (-0.5, 0.5)
    stochastic: ClassVar = ()
    cases: ClassVar = {"torus-flow": {}, "torus-flow-angle": {"reading": "angle"}}


class TestSphereDiffusion(ProcessConformance):
    process_class = SphereDiffusion
    cases: ClassVar = {
        "sphere": {},
        "sphere-ve-spectral": {"kernel": "ve", "objective": "spectral"},
        "sphere-isotropic": {"covariance": "isotropic"},
    }

    @classmethod
    def fitting(cls, shape):
        """As wide as a map of the sphere."""
        return (shape[0], shape[1], 2 * shape[1])

    @classmethod
    def images(cls, shape, generator):
        """What the resolution of a map can hold."""
        draw = super().images(shape, generator)
        grid = sphere_grid(shape[1])

        def band_limited(number):
            images = draw(number)
            project = (grid.synthesis @ grid.analysis).to(images)
            # Where waves add up they overshoot.
            return (images.flatten(2) @ project.mT).view(images.shape) / 3

        return band_limited


def test_every_process_has_a_case():
    tested = {each.process_class for each in globals().values() if is_test(each)}
    assert tested == set(PROCESSES.values())


def is_test(found):
    return (
        inspect.isclass(found)
        and issubclass(found, ProcessConformance)
        and (found is not ProcessConformance)
    )


def test_unknown_names_are_refused_with_what_is_known():
    with pytest.raises(ValueError, match="no process 'kuramotto'; choose from blurring, ddpm, "):
        make_process("kuramotto", shape=(1, 4, 4), steps=10)
    with pytest.raises(ValueError, match="ddpm has no coupling; it takes schedule, beta_range"):
        make_process("ddpm", shape=(1, 4, 4), steps=10, coupling="local")
    assert "phase_margin" in process_parameters("kuramoto")
