"""What cosmic-ray runs for each mutant, in its copy: asks the judge for the verdict, and imports next to nothing."""

import socket
import sys

SOCKET = "judge"
SURVIVED = b"survived"


def main() -> None:
    """Ends with status 0 where the mutant survived; cosmic-ray keeps what is printed."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        said = b"".join(iter(lambda: connection.recv(4096), b""))
    print(said.decode())
    sys.exit(not said.endswith(SURVIVED))


if __name__ == "__main__":
    main()
