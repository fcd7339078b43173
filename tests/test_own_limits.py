"""What says that this process or machine lacks threads, descriptors or memory, and what only looks like it."""

import errno
import socket
import sqlite3
import tempfile
import unittest
from pathlib import Path

from c42_proxy.errors import Overloaded
from c42_proxy.own_limits import is_our_own_limit
from tests.test_threads import no_descriptors


def caused_by(cause: BaseException) -> BaseException:
    error = RuntimeError("a library's own")
    error.__cause__ = cause
    return error


def raised(statement: str, path: str) -> sqlite3.Error:
    """What SQLite raises."""
    try:
        connection = sqlite3.connect(path)
        try:
            connection.execute(statement)
        finally:
            connection.close()
    except sqlite3.Error as exc:
        return exc
    raise AssertionError(f"{statement} has not failed")


class OwnLimitsTest(unittest.TestCase):
    def test_by_number(self) -> None:
        """Four numbers of the system say it, also where they only caused the error, or are an argument of it."""
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            lacking = OSError(number, "said")
            for error in (lacking, caused_by(lacking), caused_by(caused_by(lacking)), RuntimeError("said", lacking)):
                self.assertTrue(is_our_own_limit(error), error)
        for number in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EACCES):
            self.assertFalse(is_our_own_limit(caused_by(OSError(number, "said"))))

    def test_own_refusal(self) -> None:
        """So does a thread that could not be started."""
        self.assertTrue(is_our_own_limit(caused_by(Overloaded())))
        self.assertFalse(is_our_own_limit(RuntimeError("something else")))

    def test_without_a_number(self) -> None:
        """A name that does not resolve, or a file that SQLite cannot open, may be our own limit: if no socket opens."""
        with tempfile.TemporaryDirectory() as folder:
            cannot_open = raised("SELECT 1 FROM sqlite_master", f"{folder}/none/file")
            not_a_database = Path(folder, "text")
            not_a_database.write_text("no database" * 1000)
            broken = raised("SELECT 1 FROM sqlite_master", str(not_a_database))
            no_table = raised("SELECT 1 FROM nothing", f"{folder}/file")
        for error in (socket.gaierror(socket.EAI_NONAME, "unknown"), cannot_open):
            self.assertFalse(is_our_own_limit(error), error)
            with no_descriptors():
                self.assertTrue(is_our_own_limit(error), error)
        for error in (broken, no_table):
            with no_descriptors():
                self.assertFalse(is_our_own_limit(error), error)
