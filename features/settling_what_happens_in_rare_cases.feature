Feature: Settling what happens in rare cases
  In order to know what the proxy does where C42, a clock or an address is not as it should be
  As the operator of the proxy
  I want each of these cases to be settled

  Rule: Only a well-formed id reaches C42
    Ids are up to 128 characters: letters from A to Z, capital and small, digits, hyphens and underscores. Anything else could
    change the question that C42 is asked.

    # nginx takes no unprintable character (%00), and answers 400 itself.
    @not.with_impossible=<character>
    Scenario Outline: an id with <character> in it
      When an event is requested by an id with <character> in it
      Then the app is told that there is no such address
      And C42 has been asked for nothing

      Examples: with a meaning in the question to C42
        | character         |
        | a comma           |
        | a closing bracket |

      Examples: with a meaning in an address
        | character                |
        | a slash                  |
        | a space                  |
        | a line break             |
        | an unprintable character |

      Examples: other than A to Z
        | character    |
        | the letter é |

    Scenario Outline: an id of <length> characters
      Given an event that never existed, whose id has <length> characters
      When it is requested
      Then the app is told that there is no such <what>

      Examples: the longest id, and one character more
        | length | what    |
        | 128    | event   |
        | 129    | address |

    Scenario: capital and small letters are different letters
      Given the event "Tea" with the subscriber Arthur
      When the event with the same id in capitals is requested
      Then the app is told that there is no such event

  Rule: C42's count of the subscribers is not taken on trust
    C42 says how many subscribers there are, but it may be wrong. What counts is who is in the list. A list of more than
    a thousand pages is taken for one that never ends.

    Scenario Outline: <number> subscribers, and C42 gives <count>
      Given the event "Tea" with <number> subscribers
      And C42 gives <count> as their count
      When it is requested
      Then all <number> subscribers are named, in C42's order, although it has given <count>

      Examples: none
        | number | count     |
        | 250    | no number |
        | 200    | no number |

      Examples: too high
        | number | count          |
        | 100    | the number 250 |
        | 30     | the number 250 |

    Scenario Outline: <number> subscribers, and C42 gives <count>, which is too low
      Given the event "Tea" with <number> subscribers
      And C42 gives <count> as their count
      When it is requested
      Then all <number> subscribers are named, in C42's order, although it has given <count>
      And C42 has been asked for 3 pages of subscribers, each once

      Examples: a list ends with a page that is not full
        | number | count          |
        | 250    | the number 120 |
        | 250    | the number 0   |

    Scenario: a list that never ends
      Given the event "Tea" with the subscriber Arthur
      And the proxy is set to give C42 30 s for an answer
      And its list of subscribers never ends, which takes up to 30 s to find out
      When it is requested
      Then the app is told that C42's answer cannot be used
      And C42 has been asked for 1000 pages of subscribers, each once

  Rule: Where the two questions to C42 fail in different ways, the app is told what matters most
    "There is no such event" comes first, then a request to wait, then a refused token, then a missing answer, then the
    rest.

    Scenario Outline: for the event C42 <event>, for the subscribers it <subscribers>
      Given the event "Tea" with the subscriber Arthur
      And C42 <event> when asked for the event
      And C42 <subscribers> when asked for the subscribers
      And C42 answers neither question before it has received both
      When it is requested
      Then the app is told that <problem>

      Examples: an event that is not there has no subscribers
        | event                            | subscribers      | problem                |
        | says that there is no such thing | asks to wait 7 s | there is no such event |

      Examples: then a request to wait
        | event                     | subscribers               | problem                   |
        | is broken                 | asks to wait 7 s          | C42 asks to wait, for 7 s |
        | refuses the proxy's token | asks to wait 7 s          | C42 asks to wait, for 7 s |
        | asks to wait 7 s          | refuses the proxy's token | C42 asks to wait, for 7 s |

      Examples: then a refused token
        | event           | subscribers               | problem                       |
        | does not answer | refuses the proxy's token | C42 refuses the proxy's token |

      Examples: then a missing answer
        | event            | subscribers     | problem                    |
        | answers nonsense | does not answer | C42 did not answer in time |

    Scenario: pages fail in different ways, the one that matters most a moment later
      Given the event "Tea" with 250 subscribers
      And C42 is broken when asked for the second page, and a moment later asks to wait 7 s for the third
      When it is requested
      Then the app is told that C42 asks to wait, for 7 s

  Rule: Time zones and daylight saving time play no part

    Scenario Outline: the clocks go <how> in Amsterdam, where the proxy runs
      Given the event "Tea" with the subscriber Arthur
      And it is <now> UTC, 1 minute before the clocks change
      And it has been requested
      When it is requested again 4 minutes 11.999 s later
      Then the answer is valid until <end> UTC
      And C42 has been asked once
      When it is requested again 0.001 s later
      Then C42 has been asked twice

      Examples: in autumn and in spring
        | how     | now                 | end                 |
        | back    | 2016-10-30 00:59:00 | 2016-10-30 01:03:11 |
        | forward | 2017-03-26 00:59:00 | 2017-03-26 01:03:11 |

  Rule: A clock that is set back keeps no answer alive
    Computers' clocks differ a little: up to 1 s is nothing unusual. After more than that, nobody knows how old an answer
    is: C42 is asked again, and where it fails, no expired answer is given instead.

    # nginx keeps its copy until the moment that it was told, however late that is by a clock that was set back.
    @not.with_impossible=<step>
    Scenario Outline: the clock is set back by <step>
      Given the event "Tea" with the subscriber Arthur
      And it has been requested
      And the clock is set back by <step>
      When it is requested
      Then it names Arthur
      And C42 has been asked <times>

      Examples: by up to 1 s
        | step | times |
        | 1 s  | once  |

      Examples: by more than 1 s
        | step   | times |
        | 1.1 s  | twice |
        | 1 hour | twice |

    # As above: nginx gives its copy.
    @not.with_driver=stack
    Scenario: the clock is set back, and C42 fails
      Given the event "Tea" with the subscriber Arthur
      And it has been requested
      And the clock is set back by 1 hour
      And C42 is broken
      When it is requested
      Then the app is told that C42 cannot be reached or is broken

  Rule: A clock that is set back ends a wait that C42 asked for

    Scenario Outline: the clock is set back by <step> while C42 is not asked
      Given the event "Tea" with the subscriber Arthur
      And the event "Coffee" with the subscriber Ford
      And C42 asks to wait 30 s
      And "Tea" has been requested
      And C42 is well again
      And the clock is set back by <step>
      When "Coffee" is requested
      Then it names Ford

      Examples: by more than 1 s
        | step   |
        | 2 s    |
        | 2 days |
