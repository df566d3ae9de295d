"""The exception for errors of the user."""


class InputError(ValueError):
    """Invalid input: the message names the file, key or value and states what was expected.

    The command line prints the message without a traceback and exits with status 1. Any exception other than this one
    and `OSError` is a defect of the program and keeps its traceback.
    """
