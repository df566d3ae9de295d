"""Infrastructure that cannot change a number: errors, files, paths, the stage runner and reading settings."""
