"""Rows for tests."""

from typing import Any

from kod_bench.results import Row


def make_row(**changes: Any) -> Row:
    """A plausible row, with some fields changed."""
    values: dict[str, Any] = {
        "space": "tiny",
        "sweep": "20260101-000000",
        "trial": "ddpm-T100-seed0-0123abcd",
        "model": "ddpm",
        "process": "ddpm",
        "steps": 100,
        "seed": 0,
        "config": "{}",
        "config_hash": "0123abcd",
        "dataset": "fingerprints-synthetic",
        "data_hash": "dada",
        "image_size": 32,
        "channels": 1,
        "train_count": 1000,
        "parameters": 12345,
        "iterations": 600,
        "batch_size": 32,
        "workers": 1,
        "images_seen": 19200,
        "loss": 0.1,
        "training_seconds": 60.0,
        "resumed_from": 0,
        "sampler": "ancestral",
        "network_evaluations": 100,
        "sampling_seconds": 25.6,
        "order_parameter": 0.5,
        "terminal_phase": 0.1,
        "terminal_phase_spread": 0.1,
        "terminal_order": 0.3,
        "terminal_order_spread": 0.05,
        "prior_phase": 0.0,
        "prior_phase_spread": 0.05,
        "prior_order": 0.4,
        "prior_order_spread": 0.02,
        "kid": 2.0,
        "fid": 600.0,
        "kid_real": 0.01,
        "fid_real": 90.0,
        "features": "efficientnet-lite0@96-57934424",
        "sample_count": 256,
        "real_count": 256,
        "reference_count": 1000,
        "reference_hash": "beef",
        "evaluation_seconds": 5.0,
        "device": "cpu",
        "hostname": "here",
        "version": "0.1.0",
        "code_hash": "c0de",
        "git_commit": None,
        "git_dirty": None,
        "packages": "{}",
        "finished_at": "2026-01-01T00:00:00+00:00",
    }
    return Row(**(values | changes))
