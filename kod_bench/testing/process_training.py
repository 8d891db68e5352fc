"""Tests of what a process does with images: encoding, fitting, training batches."""

import io
from itertools import islice

import pytest
import torch

from kod_bench.diffusion import DiffusionProcess, TrainingBatch
from kod_bench.diffusion.batches import ResumableBatches
from kod_bench.testing.process_cases import (
    ProcessCases,
    Shape,
    all_equal,
    check_states,
    guess,
    seeded,
    tensors,
    tensors_within,
)


class TrainingConformance(ProcessCases):
    """What training needs of a process."""

    def test_decode_inverts_encode(self, process: DiffusionProcess, shape: Shape) -> None:
        """States are images, and images that were encoded are left alone."""
        images = self.images(shape, seeded())(5)
        kept = images.clone()
        state = process.encode(images)
        check_states(process, state, 5)
        assert torch.allclose(process.decode(state), images, atol=1e-6)
        state.fill_(0.1)
        assert torch.equal(images, kept)

    def test_decode_stays_in_range(self, process: DiffusionProcess) -> None:
        """Images lie in [-1, 1] whatever the state."""
        state = 10 * process.prior(50, seeded())
        assert process.decode(state).abs().max() <= 1

    def test_fitting_follows_its_generator(self, process: DiffusionProcess) -> None:
        """Workers that fit with equal generators have equal processes."""

        def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
            process.fit(self.images(process.shape, seeded(1)), seeded(seed))
            return process.prior(3, seeded()), self.take(process, 3)[-1].target

        first, other, same = drawn(0), drawn(1), drawn(0)
        assert all_equal(first, same)
        if process.diagnostics() and type(process).fit is not DiffusionProcess.fit:
            assert not torch.equal(first[0], other[0])

    def test_fitting_runs_where_the_images_are(
        self, process: DiffusionProcess, device: str
    ) -> None:
        """Nothing is moved between devices in silence."""
        process.fit(self.images(process.shape, seeded(1, device)), seeded(2, device))
        check_states(process, process.prior(2, seeded(0, device)), 2, device)

    def test_training_batches_are_legal(
        self, process: DiffusionProcess, steps: int, device: str
    ) -> None:
        """Shapes, dtypes, devices; every step is trained on, or times all over [1, T]."""
        seen: set[float] = set()
        for batch in self.take(process, 60, device=device):
            assert isinstance(batch, TrainingBatch)
            check_states(process, batch.state, 4, device)
            assert batch.step.shape == (4,)
            assert batch.step.dtype in (torch.int64, torch.float32)
            assert batch.target.shape == batch.state.shape
            assert batch.target.dtype == torch.float32
            assert torch.isfinite(batch.target).all()
            assert all(each.device.type == device for each in tensors(batch))
            assert not any(each.requires_grad for each in tensors(batch))
            loss = (batch.weight * (batch.target - guess(batch.state, batch.step)).square()).mean()
            assert torch.isfinite(loss)
            seen.update(batch.step.tolist())
        assert min(seen) >= 1
        assert max(seen) <= steps
        assert len(seen) > 0.8 * steps

    def test_weight_depends_on_the_step_alone(self, process: DiffusionProcess) -> None:
        """So that a loss can be told apart by step."""
        known: dict[float, float] = {}
        for batch in self.take(process, 40):
            weights = batch.weight.expand_as(batch.state)
            for t, weight in zip(batch.step.tolist(), weights, strict=True):
                assert (weight == known.setdefault(t, weight.flatten()[0].item())).all()
                assert known[t] > 0

    def test_guessing_zero_costs_about_one(self, case: str) -> None:
        """One learning rate serves all processes."""
        batches = self.take(self.make(case, (1, 8, 8), 100), 60, batch_size=32)
        losses = [(batch.weight * batch.target.square()).mean() for batch in batches]
        # A weight that is not 1 at every t weighs the noise in this mean, too.
        accuracy = 0.03 if bool((batches[0].weight == 1).all()) else 0.1
        assert torch.stack(losses).mean().item() == pytest.approx(1, abs=accuracy)

    def test_equal_generators_give_equal_batches(self, process: DiffusionProcess) -> None:
        """A training can be repeated."""
        first, same, other = (self.take(process, 15, seed=seed) for seed in (0, 0, 1))
        assert all(all_equal(tensors(a), tensors(b)) for a, b in zip(first, same, strict=True))
        assert not any(torch.equal(a.target, b.target) for a, b in zip(first, other, strict=True))

    def test_two_iterators_do_not_meet(self, process: DiffusionProcess) -> None:
        """Two trainings of one process do not disturb each other."""
        alone = self.take(process, 10)
        one, two = (
            process.training_batches(self.images(process.shape, seeded(99)), 4, seeded(seed))
            for seed in (0, 1)
        )
        for batch in alone:
            assert torch.equal(next(one).state, batch.state)
            next(two)

    def test_batches_can_be_put_away_and_taken_up(
        self, process: DiffusionProcess, device: str
    ) -> None:
        """A resumed training leaves no trace, if the batches can say what they depend on."""
        streams = [seeded(99, device), seeded(0, device)]
        batches = process.training_batches(self.images(process.shape, streams[0]), 4, streams[1])
        if not isinstance(batches, ResumableBatches):
            pytest.skip("no state_dict and load_state_dict: a resumed training draws anew")
        for taken in (0, 1, 3, 9):
            list(islice(batches, taken))
            file, held = io.BytesIO(), batches.state_dict()
            torch.save((held, [each.get_state() for each in streams]), file)
            file.seek(0)
            # As from a checkpoint: nothing that runs code, and on the CPU.
            state, positions = torch.load(file, weights_only=True, map_location="cpu")
            others = [seeded(5, device), seeded(6, device)]
            again = process.training_batches(self.images(process.shape, others[0]), 4, others[1])
            assert isinstance(again, ResumableBatches)
            again.load_state_dict(state)
            for other, position in zip(others, positions, strict=True):
                other.set_state(position)
            for expected, found in zip(islice(batches, 12), islice(again, 12), strict=True):
                assert all_equal(tensors(expected), tensors(found))
            # It is written to the disk while training goes on.
            unchanged = zip(tensors_within(held), tensors_within(state), strict=True)
            assert all(torch.equal(one.to(device), other.to(device)) for one, other in unchanged)

    def test_source_images_are_left_alone(self, process: DiffusionProcess, shape: Shape) -> None:
        """Whatever is done with the batches."""
        images = self.images(shape, seeded())(64)  # more than anybody asks for at once
        kept = images.clone()
        batches = process.training_batches(lambda number: images[:number], 4, seeded())
        for batch in islice(batches, 30):
            batch.state.zero_()
        assert torch.equal(images, kept)
