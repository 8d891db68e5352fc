"""What a sweep from somebody else may not do: have code of its own choosing run by `resume`.

Plans, rows and histories are JSON, YAML and Parquet, and checkpoints are read without unpickling;
what is left is the name of a feature extractor, which is imported from the working folder.
"""

from kod_bench.errors import UsageError
from kod_bench.evaluation import is_users_code
from kod_bench.sweeps.plan.sweep import Sweep


def check_trusted(sweep: Sweep, extractor: str | None) -> None:
    """Refuse a plan that names code, unless its user has named the same.

    Args:
        sweep: about to be resumed.
        extractor: what the user lets it import.

    Raises:
        UsageError: naming the extractor.
    """
    evaluations = [trial.evaluation for trial in sweep.trials]
    if sweep.growth is not None:
        evaluations.append(sweep.growth.evaluation)  # of the trials to come
    for name in dict.fromkeys(str(each.get("features")) for each in evaluations):
        if is_users_code(name) and name != extractor:
            raise UsageError(
                f"{sweep.shown}: its plan imports the feature extractor {name!r}; if you know "
                f"that code and trust it, add --extractor {name}"
            )
