"""Tables of what wetext reads wrong, with the reason beside each row.

They were made with the version of wetext that pyproject.toml pins.
"""
