"""The conformance suite of processes: all of its tests in one class."""

import re

import pytest
import torch

from kod_bench.diffusion import DiffusionProcess, find_process, sample
from kod_bench.diffusion.plugged import check_process_class
from kod_bench.sweeps.space.variants import parameters_model
from kod_bench.testing.process_cases import Shape, guess, seeded
from kod_bench.testing.process_sampling import SamplingConformance
from kod_bench.testing.process_training import TrainingConformance


class ProcessConformance(TrainingConformance, SamplingConformance):
    """What every process must do, whatever it is; see `ProcessCases` for what a subclass says."""

    def test_search_spaces_can_name_it(self) -> None:
        """By annotated keyword arguments; under the name that its package announces, if any."""
        assert check_process_class(self.process_class) is self.process_class
        if self.name is not None:
            assert find_process(self.name) is self.process_class
            parameters_model(self.name)

    def test_it_says_what_it_is(self, process: DiffusionProcess, shape: Shape, steps: int) -> None:
        """Attributes of the interface."""
        assert isinstance(process, DiffusionProcess)
        assert (process.shape, process.steps) == (shape, steps)
        assert isinstance(process.periodic, bool)
        assert isinstance(process.structured, bool)
        assert process.kind in ("structured", "control", "euclidean")
        assert (process.kind == "euclidean") is not process.structured
        assert process.samplers
        assert process.priors
        assert set(process.second_order) <= set(process.samplers)
        assert set(process.correctors) <= set(process.second_order)
        assert set(process.multistep) <= set(process.samplers)
        assert set(process.restarting) <= set(process.samplers) - set(process.second_order)

    def test_misfits_are_refused(self, process: DiffusionProcess, steps: int) -> None:
        """Wrong shapes, steps, samplers and counts get a ValueError that says what is allowed."""
        state = process.prior(2, seeded())
        wrong_image, wrong_state = (
            torch.zeros(2, shape[0] + 1, *shape[1:])
            for shape in (process.shape, process.state_shape)
        )
        for step in (0, steps + 1, -1):
            with pytest.raises(ValueError, match=rf"step must lie in 1\.\.{steps}, got {step}"):
                process.forward_step(state, step, seeded())
            with pytest.raises(ValueError, match="step must lie in"):
                process.reverse_step(state, step, 0, state, seeded())
        for to in (-1, steps, steps + 1):
            with pytest.raises(ValueError, match=rf"from {steps} must lead to 0\.\.{steps - 1}, g"):
                process.reverse_step(state, steps, to, state, seeded())
        unknown = rf"no sampler 'no-such'; choose from {re.escape(process.samplers[0])}"
        with pytest.raises(ValueError, match=unknown):
            process.reverse_step(state, 1, 0, state, seeded(), "no-such")
        with pytest.raises(ValueError, match=unknown):
            sample(process, guess, 1, seeded(), sampler="no-such")
        with pytest.raises(ValueError, match=rf"evaluations must be at most T = {steps}, got"):
            sample(process, guess, 1, seeded(), evaluations=steps + 1)
        with pytest.raises(ValueError, match="evaluations must be at least 1, got 0"):
            sample(process, guess, 1, seeded(), evaluations=0)
        for sampler in process.samplers:
            wrong = f"sampler {sampler!r} corrects no step"
            if sampler in process.second_order:
                wrong = "step must lie in"
            with pytest.raises(ValueError, match=re.escape(wrong)):
                process.correct_step(state, steps, 0, state, state, state, sampler, seeded())
        with pytest.raises(ValueError, match=r"expected \(B, "):
            process.encode(wrong_image)
        with pytest.raises(ValueError, match=r"expected \(B, "):
            process.decode(wrong_state)
        with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
            process.training_batches(self.images(process.shape, seeded()), 0, seeded())
        with pytest.raises(ValueError, match="count must be at least 1, got 0"):
            sample(process, guess, 0, seeded())

    def test_unknown_priors_are_refused(self, process: DiffusionProcess) -> None:
        """With the names that there are."""
        known = re.escape(process.priors[0])
        with pytest.raises(ValueError, match=f"no prior 'no-such'; choose from {known}"):
            process.prior(2, seeded(), "no-such")

    def test_diagnostics_are_those_of_the_prior_asked_for(self, process: DiffusionProcess) -> None:
        """Of the first by default."""
        assert process.diagnostics() == process.diagnostics(process.priors[0])
        for prior in process.priors:
            assert all(isinstance(value, float) for value in process.diagnostics(prior).values())
