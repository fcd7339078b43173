"""A judgement is right only if it has told of every rule."""

import unittest

from tools.judge.check import Program, wrong

OURS = Program("ours", "", options=())
OTHER = Program("other", "", frozenset({"Rule 8"}))
HELD = "".join(f"held    exercise  Rule {number}\n" for number in range(1, 8))
EXERCISE = f"{HELD}held    exercise  Rule 8\nThe exercise: 8 of 8 rules held.\n"
RIGHT = f"{EXERCISE}held              More\nAll: 43 of 43 rules held, and 8 cannot be told.\nIt took 1 s."
BROKEN = f"{HELD}broken  exercise  Rule 8\nThe exercise: 7 of 8 rules held.\nIt took 1 s."


class WrongTest(unittest.TestCase):
    def test_each(self) -> None:
        for program, status, said, why in (
            (OURS, 0, RIGHT, ""),
            (OTHER, 1, BROKEN, ""),
            (OURS, 1, RIGHT, "exit status is 1"),
            (OTHER, 0, BROKEN, "exit status is 0"),
            (OURS, 1, BROKEN, "no other: []"),
            (OTHER, 0, RIGHT, "no other: ['Rule 8']"),
            (OURS, 0, "The exercise: 0 of 0 rules held, and 8 cannot be told.\nAll: 0 of 0 rules held.", "8 rules"),
            (OURS, 0, RIGHT.replace("held    exercise  Rule 8", "not run exercise  Rule 8"), "8 rules"),
            (OURS, 0, RIGHT.replace("8 of 8 rules held", "7 of 7 rules held, and 1 cannot be told"), "8 of 8"),
            (OURS, 0, RIGHT.replace("43 of 43 rules held, and 8", "42 of 42 rules held, and 9"), "all rules"),
            (OURS, 0, RIGHT.replace("43 of 43", "42 of 43"), "all rules"),
            (OURS, 0, EXERCISE, "all rules"),
            (OURS, 2, "The program cannot be started.", "8 rules"),
        ):
            with self.subTest(status=status, said=said):
                (self.assertIn if why else self.assertEqual)(why, wrong(program, status, said))


if __name__ == "__main__":
    unittest.main()
