Feature: Sparing C42
  In order to get by with the calls that C42 allows, however many people look at an event
  As the operator of the proxy
  I want C42 to be asked once for what many want to know, and not at all when it wants to be left alone

  To an event of which nothing else is said, Arthur comes.

  Rule: However many request an event at once, C42 is asked once
    The first request asks; the others wait for what comes of it. To ask once is to ask for the event and for each page of
    its subscribers.

    Scenario Outline: <number> people open the same invitation
      Given the event "Tea" with the subscribers Arthur and Ford
      When it is requested by <number> people at once
      Then all of them are told the same, that it names Arthur and Ford
      And C42 has been asked once

      Examples: few and many
        | number |
        | 2      |
        | 100    |
        | 2000   |

    Scenario: an answer expires while a hundred people look at it
      Given "Tea" has been requested
      When it is requested by 100 people at once, 4 minutes 12 s later
      Then all of them are told the same
      And C42 has been asked twice

    Scenario: those who wait share a failure, too
      Given the event "Tea" with the subscriber Arthur
      And C42 is broken
      When it is requested by 100 people at once
      Then all of them are told that C42 cannot be reached or is broken
      And C42 has been asked once

  Rule: What failed a moment ago is not tried again at once

    Scenario Outline: requested again <wait> after a failure
      Given the event "Tea" with the subscriber Arthur
      And C42 is broken
      And it has been requested
      When it is requested again <wait> later
      Then the app is told that C42 cannot be reached or is broken
      And C42 has been asked <times>

      Examples: before 1 s
        | wait  | times |
        | 0 s   | once  |
        | 0.9 s | once  |

      Examples: from 1 s on
        | wait | times |
        | 1 s  | twice |

  Rule: When C42 asks to wait, nobody asks it anything until then

    Scenario Outline: C42 asks to wait 30 s, and another event is requested <wait> later
      Given the events "Tea" and "Coffee with the C42 team"
      And C42 asks to wait 30 s
      And "Tea" has been requested
      And C42 is well again
      When "Coffee with the C42 team" is requested <wait> later
      Then the app is told that <outcome>
      And C42 has been asked <times>

      Examples: before 30 s
        | wait   | outcome                    | times |
        | 0 s    | C42 asks to wait, for 30 s | once  |
        | 29.9 s | C42 asks to wait, for 1 s  | once  |

      Examples: from 30 s on
        | wait | outcome      | times |
        | 30 s | Arthur comes | twice |

    Scenario: a remembered answer needs no C42
      Given the events "Tea" and "Coffee with the C42 team"
      And "Coffee with the C42 team" has been requested
      And C42 asks to wait 30 s
      And "Tea" has been requested
      When "Coffee with the C42 team" is requested
      Then it names Arthur

    Scenario Outline: a clock that is set back by <step> ends the wait
      Given the events "Tea" and "Coffee with the C42 team"
      And C42 asks to wait 30 s
      And "Tea" has been requested
      And C42 is well again
      And the clock is set back by <step>
      When "Coffee with the C42 team" is requested
      Then it names Arthur

      Examples: by more than a second
        | step   |
        | 2 s    |
        | 2 days |

  Rule: When C42 is down, it is left alone for five seconds at a time
    Five failures in a row, for five different events, mean that it is down. When the event that failed last fails once
    more, that proves nothing new.

    Scenario: five events fail
      Given C42 is broken
      And 5 events have been requested
      And C42 is well again
      When another event is requested
      Then the app is told that C42 is down, and to try again in 5 s
      And C42 has not been asked for it

    Scenario: four events fail
      Given C42 is broken
      And 4 events have been requested
      And C42 is well again
      When another event is requested
      Then it names Arthur

    Scenario: one event that keeps failing does not mean that C42 is down
      Given the event "Tea" with the subscriber Arthur
      And C42 is broken
      And it has been requested 10 times, 2 s apart
      And C42 is well again
      When another event is requested
      Then it names Arthur

    Scenario: a success in between starts the count anew
      Given C42 is broken
      And 4 events have been requested
      And C42 is well again
      And "Tea" has been requested
      And C42 is broken
      And 4 more events have been requested
      And C42 is well again
      When another event is requested
      Then it names Arthur

    Scenario Outline: C42 <does>, which does not mean that it is down
      Given C42 <does>
      And 6 events have been requested
      And C42 is well again
      When another event is requested
      Then it names Arthur

      Examples: it answers, so it is not down
        | does                             |
        | answers nonsense                 |
        | refuses the proxy's token        |
        | says that there is no such thing |

    Scenario Outline: C42 is tried again <wait> later, and is well
      Given C42 is broken
      And 5 events have been requested
      And C42 is well again
      When another event is requested <wait> later
      Then the app is told that <outcome>

      Examples: before 5 s
        | wait  | outcome     |
        | 4.9 s | C42 is down |

      Examples: from 5 s on
        | wait | outcome      |
        | 5 s  | Arthur comes |

    Scenario: it is tried again, and is still down
      Given C42 is broken
      And 5 events have been requested
      And another event has been requested 5 s later
      And C42 is well again
      When another event is requested 4.9 s later
      Then the app is told that C42 is down
      When another event is requested 0.1 s later
      Then it names Arthur

    Scenario: the event that failed last fails again, and others are not held up by it
      Given C42 is broken
      And 5 events have been requested
      And the last of them has been requested again 5 s later
      And C42 is well again
      When another event is requested
      Then it names Arthur

    Scenario: an operator may choose never to leave C42 alone
      Given the proxy is set never to leave C42 alone
      And C42 is broken
      And 20 events have been requested
      And C42 is well again
      When another event is requested
      Then it names Arthur
