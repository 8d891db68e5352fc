"""The JSON Schema of search spaces, for editors: made from the models that validate them."""

from kod_bench.sweeps.space.schema.whole import schema_text, search_space_schema

__all__ = ["schema_text", "search_space_schema"]
