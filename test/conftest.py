"""What holds for all tests."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)  # the same examples in every run
settings.load_profile("repeatable")
