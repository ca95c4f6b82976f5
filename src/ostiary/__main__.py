"""python -m ostiary: the command line."""

from ostiary.cli import main

if __name__ == "__main__":
    main()
