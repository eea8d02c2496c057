"""What happens when the user, not the program, is mistaken."""


class UserError(Exception):
    """A missing file, a wrong path, a bad value: something the user can put right.

    Its message is one sentence that names the thing and the remedy. The commands print that
    sentence and end with exit code 2; any other exception keeps its traceback, because it is a bug.
    """
