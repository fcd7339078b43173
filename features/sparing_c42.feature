Feature: Sparing C42
  In order to get by with the calls that C42 allows, however many people look at an event
  As the operator of the proxy
  I want C42 to be asked once for what many want to know, and not at all while it cannot answer

  To ask C42 once is to ask it for the event and for each page of its subscribers.

  Background:
    Given the event "Tea" with the subscribers Arthur and Ford
    And the event "Coffee" with the subscriber Zaphod
    And 25 other events, each with the subscriber Trillian

  Rule: However many request an event at once, C42 is asked once
    The first request asks; the others wait for the same answer.

    Scenario Outline: <number> people open the same invitation
      When "Tea" is requested by <number> people at once
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
      Then all of them are told the same, that it names Arthur and Ford
      And C42 has been asked twice

    Scenario: those who wait share a failure, too
      Given C42 is broken
      When "Tea" is requested by 100 people at once
      Then all of them are told that C42 cannot be reached or is broken
      And C42 has been asked once

    # Two proxies at the same time, of which one waits: the other drivers have one proxy, or time stands still in it.
    @use.with_driver=sockets @use.with_driver=stack
    Scenario Outline: two proxies that remember in one place are asked at once, and C42 <does>
      Given the proxies remember answers in one place
      And C42 <does>
      When "Tea" is requested from two proxies at once
      Then all of them are told <what>
      And the second of them is marked as asked for by another
      And C42 has been asked once

      Examples: whatever it says
        | does                             | what                                    |
        | is well again                    | the same, that it names Arthur and Ford |
        | says that there is no such thing | that there is no such event             |
        | is broken                        | that C42 cannot be reached or is broken |
        | refuses the proxy's token        | that C42 refuses the proxy's token      |

    # As above; and the stack's Redis is bounded by its own operator.
    @use.with_driver=sockets
    Scenario: two proxies that have no room for the answer are asked at once
      Given the proxies remember answers in one place
      And the proxy has room for no answer
      When "Tea" is requested from two proxies at once
      Then all of them are told the same, that it names Arthur and Ford
      And C42 has been asked once
      When "Tea" is requested
      Then C42 has been asked twice

  Rule: What an event costs at the most does not depend on how many look at it
    An answer is reused for 4 minutes 12 s: an event that somebody always looks at is asked for 14.3 times an hour. With up to
    a hundred subscribers that makes 28.6 calls an hour, 14.3 of each kind; with 250 subscribers, 57.

    Scenario Outline: an event with <number> subscribers that somebody always looks at
      Given the event "Dinner" with <number> subscribers
      When "Dinner" is requested every 12 s for 42 minutes
      Then C42 has been asked 10 times
      And C42 has received <calls> calls

      Examples: in 42 minutes, so that it is 10 times
        | number | calls |
        | 100    | 20    |
        | 250    | 40    |

  Rule: When there can be no answer, C42 is asked nothing more for it

    Scenario: C42 fails for the event, and gives the first of three pages of subscribers after that
      Given the event "Dinner" with 250 subscribers
      And C42 is broken when asked for the event, and lists the subscribers a moment later
      When "Dinner" is requested
      Then the app is told that C42 cannot be reached or is broken
      And C42 has been asked for 1 page of subscribers alone

  Rule: What failed less than 1 s ago is not tried again
    So those who request an event together are told the same.

    Scenario Outline: an event is requested again <wait> after a failure
      Given C42 is broken
      And "Tea" has been requested
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

    Scenario: C42 asks to wait until a moment that has passed
      Given C42 asks to wait until a moment that has passed
      And "Tea" has been requested
      When it is requested again 0.9 s later
      Then the app is told that C42 asks to wait, for 1 s
      And C42 has been asked once

  Rule: When C42 asks to wait, nobody asks it anything until then

    Scenario Outline: C42 asks to wait 30 s, and another event is requested <wait> later
      Given C42 asks to wait 30 s
      And "Tea" has been requested
      And C42 is well again
      When "Coffee" is requested <wait> later
      Then the app is told that C42 asks to wait, for <rest>
      And C42 has not been asked for it

      Examples: before 30 s
        | wait   | rest |
        | 0 s    | 30 s |
        | 29.9 s | 1 s  |

    Scenario: C42 asks to wait 30 s, and another event is requested when the 30 s are over
      Given C42 asks to wait 30 s
      And "Tea" has been requested
      And C42 is well again
      When "Coffee" is requested 30 s later
      Then it names Zaphod

    Scenario: C42 asks to wait until a moment that has passed, and another event is requested
      Given C42 asks to wait until a moment that has passed
      And "Tea" has been requested
      And C42 is well again
      When "Coffee" is requested
      Then it names Zaphod

    Scenario: C42 asks to wait 1 hour, and another event is requested before and after that
      Given C42 asks to wait 1 hour
      And "Tea" has been requested
      And C42 is well again
      When "Coffee" is requested 59 minutes 59.9 s later
      Then the app is told that C42 asks to wait, for 1 s
      And C42 has not been asked for it
      When it is requested again 0.1 s later
      Then it names Zaphod

    Scenario Outline: C42 asks to wait <event> for the event, and <subscribers> for its subscribers
      Given C42 asks to wait <event> when asked for the event
      And C42 asks to wait <subscribers> when asked for the subscribers
      And C42 answers neither question before it has received both
      And "Tea" has been requested
      And C42 is well again
      When "Coffee" is requested 29.9 s later
      Then the app is told that C42 asks to wait, for 1 s
      When it is requested again 0.1 s later
      Then it names Zaphod

      Examples: the longer time counts
        | event | subscribers |
        | 30 s  | 7 s         |
        | 7 s   | 30 s        |

    Scenario: a remembered answer needs no C42
      Given "Coffee" has been requested
      And C42 asks to wait 30 s
      And "Tea" has been requested
      When "Coffee" is requested
      Then it names Zaphod

  Rule: When C42 is down, it is not asked for 5 s at a time
    Five failures in a row, for five different events, mean that it is down. When the event that failed last fails once
    more, that proves nothing new.

    Scenario: five events fail
      Given C42 is broken
      And 5 other events have been requested
      And C42 is well again
      When "Tea" is requested
      Then the app is told that C42 is down, and to try again in 5 s
      And C42 has not been asked for it

    Scenario: four events fail
      Given C42 is broken
      And 4 other events have been requested
      And C42 is well again
      When "Tea" is requested
      Then it names Arthur and Ford

    Scenario: one event that keeps failing does not mean that C42 is down
      Given C42 is broken
      And "Tea" has been requested 10 times, 2 s apart
      And C42 is well again
      When "Coffee" is requested
      Then it names Zaphod
      And C42 has been asked for "Tea" 10 times

    Scenario: a success in between starts the count anew
      Given C42 is broken
      And 4 other events have been requested
      And C42 is well again
      And "Tea" has been requested
      And C42 is broken
      And 4 other events have been requested
      And C42 is well again
      When "Coffee" is requested
      Then it names Zaphod

    Scenario Outline: C42 <does>, which does not mean that it is down
      Given C42 <does>
      And 6 other events have been requested
      And C42 is well again
      When "Tea" is requested
      Then it names Arthur and Ford

      Examples: it answers, so it is not down
        | does                             |
        | answers nonsense                 |
        | refuses the proxy's token        |
        | says that there is no such thing |

    Scenario: C42 is well again, and is not asked before 5 s have passed
      Given C42 is broken
      And 5 other events have been requested
      And C42 is well again
      When "Tea" is requested 4.9 s later
      Then the app is told that C42 is down
      And C42 has not been asked for it
      When it is requested again 0.1 s later
      Then it names Arthur and Ford

    Scenario: C42 is asked again after 5 s, and is still down
      Given C42 is broken
      And 5 other events have been requested
      And another event has been requested 5 s later
      And C42 is well again
      When "Tea" is requested 4.9 s later
      Then the app is told that C42 is down
      And C42 has been asked 6 times
      When it is requested again 0.1 s later
      Then it names Arthur and Ford

    Scenario: the event that failed last fails again, and others are not held up by it
      Given C42 is broken
      And 5 other events have been requested
      And the last of them has been requested again 5 s later
      And C42 is well again
      When "Tea" is requested
      Then it names Arthur and Ford

    Scenario: an event that failed before the last one fails again, so C42 is still down
      Given C42 is broken
      And 3 other events have been requested
      And "Coffee" has been requested
      And "Tea" has been requested
      And "Coffee" has been requested 5 s later
      And C42 is well again
      When "Tea" is requested
      Then the app is told that C42 is down, and to try again in 5 s

    Scenario: after 5 s one request at a time finds out whether C42 is well again
      Given the proxy is set to give C42 30 s for an answer
      And C42 is broken
      And 5 other events have been requested
      And C42 is well again
      And another event is being requested 5 s later, and C42 does not answer yet
      When "Tea" is requested
      Then the app is told that C42 is down, and to try again in 1 s
      And C42 has not been asked for it
      When C42 fails for those who still wait
      And "Tea" is requested
      Then the app is told that C42 is down, and to try again in 5 s
      And C42 has not been asked for it

    Scenario: C42 is well again, and fails late for those who asked before it was down
      Given the proxy is set to give C42 30 s for an answer
      And 5 other events are being requested, and C42 does not answer yet
      And C42 is broken
      And 5 other events have been requested
      And C42 is well again
      And "Tea" has been requested 5 s later
      When C42 fails for those who still wait
      Then all of them are told that C42 cannot be reached or is broken
      When "Coffee" is requested
      Then it names Zaphod

    Scenario: an operator may choose that C42 is asked however often it fails
      Given the proxy is set to ask C42 however often it fails
      And C42 is broken
      And 20 other events have been requested
      And C42 is well again
      When "Tea" is requested
      Then it names Arthur and Ford

  Rule: When the proxy has too much to do, it says so at once
    It asks C42 for 256 events at the same time, and 1000 more may wait for their turn. Whoever comes after them is told so
    at once, unless the answer is remembered. That is no failure of C42: it is still asked.

    # The limits are those of one process. The stack has four, and nobody knows which of them gets a request.
    @slow @use.with_store=memory @use.with_driver=flask @use.with_driver=live
    Scenario: many different events are requested at once
      Given 1275 other events, each with the subscriber Trillian
      And the proxy is set to give C42 30 s for an answer
      And "Tea" has been requested
      When 1256 other events, then 44 more and "Tea", are requested before C42 answers
      Then it names Arthur and Ford
      And 1256 of them are told that Trillian comes
      And 44 of them are told that the proxy has too much to do, and to try again in 1 s
      When "Coffee" is requested
      Then it names Zaphod
