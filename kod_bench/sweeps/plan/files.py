"""Names in a sweep's and a trial's folder, beside those of `kod_bench.results`."""

CHECKPOINTS = "checkpoints"
CURVES = "tensorboard"
HISTORY_FILE = "history.jsonl"
LOG_FILE = "log.txt"
MEMORY_FILE = "memory.json"
RUNGS_FILE = "rungs.json"
TRAINING_LOCK = "training.lock"  # of the worker that writes, if there are several

SIGNATURE_FILE = "signature.json"  # of the plan; see `kod_bench.sweeps.store.ownership`
STUDY_LOCK = "study.journal.lock"  # of the sweep; Optuna's, a link that says that it is held
