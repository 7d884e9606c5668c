"""What holds for every test: chance is drawn alike in every run, and a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, print_blob=False)
settings.register_profile("search", deadline=None, derandomize=False, print_blob=True)  # --hypothesis-profile=search: new draws
settings.load_profile("house")
