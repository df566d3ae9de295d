"""What a user did wrong, said in one line."""


class InputError(ValueError):
    """Bad input: the message names the file, key or value and says what was expected.

    The command line prints it as one line and exits with status 1; any other exception is a defect of ours and
    keeps its traceback.
    """
