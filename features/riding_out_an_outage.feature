Feature: Riding out an outage
  In order to keep my app useful while C42 is not
  As the maker of an app on Calendar42
  I want an answer that has expired rather than none, and to be told that it has

  An answer expires 4 minutes 12 s after C42 was asked for it.

  Background:
    Given the event "Tea" with the subscriber Arthur
    And the event "Coffee" with the subscriber Ford
    And 10 other events, each with the subscriber Trillian

  Rule: When C42 fails, an answer that expired less than 1 hour ago is given instead
    The answer "there is no such event" is not given again once it has expired.

    Scenario Outline: C42 <fails> when an expired answer is to be renewed
      Given "Tea" has been requested
      And C42 <fails>
      When it is requested again 5 minutes later
      Then it names Arthur
      And the answer is marked as expired
      And the answer must not be kept

      Examples: whatever the failure
        | fails                             |
        | is broken                         |
        | cannot be reached                 |
        | stops in the middle of its answer |
        | does not answer                   |
        | answers nonsense                  |
        | asks to wait 7 s                  |

    Scenario Outline: C42 fails when asked for <question>, and answers the other question
      Given "Tea" has been requested
      And C42 is broken when asked for <question>
      When it is requested again 5 minutes later
      Then it names Arthur
      And the answer is marked as expired

      Examples: either of the two
        | question        |
        | the event       |
        | the subscribers |

    Scenario Outline: an event is requested again <wait> later, while C42 is broken
      Given "Tea" has been requested
      And C42 is broken
      When it is requested again <wait> later
      Then the app is told that <outcome>

      Examples: less than 1 hour after the answer expired
        | wait                    | outcome      |
        | 4 minutes 12 s          | Arthur comes |
        | 1 hour 4 minutes 11.9 s | Arthur comes |

      Examples: 1 hour or more after the answer expired
        | wait                  | outcome                            |
        | 1 hour 4 minutes 12 s | C42 cannot be reached or is broken |
        | 1 hour 5 minutes      | C42 cannot be reached or is broken |

    Scenario: an event was deleted, but C42 fails before it can say so
      Given "Tea" has been requested
      And C42 deletes it
      And C42 is broken
      When it is requested again 5 minutes later
      Then it names Arthur
      And the answer is marked as expired

    Scenario: C42 is asked first, every time that it may be
      Given "Tea" has been requested
      And C42 is broken
      And it has been requested again 5 minutes later
      And C42 renames it to "Biscuits"
      And C42 is well again
      When it is requested again 2 s later
      Then the answer is titled "Biscuits"

    Scenario: C42 is asked first, even right after a repeated failure
      Given "Tea" has been requested
      And C42 is broken
      And it has been requested again 5 minutes later
      And it has been requested again 0.5 s later
      And C42 renames it to "Biscuits"
      And C42 is well again
      When it is requested again 0.5 s later
      Then the answer is titled "Biscuits"

    Scenario: an operator may choose never to give an expired answer
      Given the proxy is set never to give an expired answer
      And "Tea" has been requested
      And C42 is broken
      When it is requested again 5 minutes later
      Then the app is told that C42 cannot be reached or is broken

  Rule: Whoever leaves an event is named for 1 hour 4 minutes 12 s at the longest
    That is 4 minutes 12 s while C42 answers, and 1 hour more while C42 fails.

    Scenario: somebody leaves, and C42 fails
      Given the event "Dinner" with the subscribers Zaphod and Trillian
      And "Dinner" has been requested
      And Zaphod leaves it
      And C42 is broken
      When it is requested again 1 hour 4 minutes 11.9 s later
      Then it names Zaphod and Trillian
      When it is requested again 0.1 s later
      Then the app is told that C42 cannot be reached or is broken
      When C42 is well again
      And it is requested again 5 s later
      Then it names Trillian

  Rule: What nobody may be given any more is erased within a minute
    Nobody may be given an answer when 1 hour 4 minutes 12 s have passed since C42 was asked for it. While no proxy runs,
    nothing is erased; the next one does it when it starts. Before an answer is that old, nothing erases the name of somebody who has
    left, or who must be forgotten.

    Scenario: somebody leaves, and nobody requests the event again
      Given the proxies remember answers in one place
      And the event "Dinner" with the subscribers Zaphod and Trillian
      And "Dinner" has been requested
      And Zaphod leaves it
      Then that place holds the name Zaphod
      When the proxy is restarted 1 hour 5 minutes 12 s later
      And "Tea" is requested
      Then that place holds the name Zaphod no more
      And that place holds the name Arthur

  Rule: While C42 may not be asked, an expired answer is given at once
    "Sparing C42" says when C42 may not be asked.

    Scenario: C42 has asked to wait
      Given "Coffee" has been requested
      And C42 asks to wait 10 minutes
      And "Tea" has been requested
      When "Coffee" is requested 5 minutes later
      Then it names Ford
      And the answer is marked as expired 48 s ago, without asking C42
      And C42 has been asked for "Coffee" once

    Scenario: C42 is down for 10 minutes, and has been asked for the event before
      Given "Tea" has been requested
      And C42 is broken
      And 5 other events have been requested
      When "Tea" is requested every 10 s for 10 minutes
      Then each time it names Arthur
      When C42 is well again
      And C42 renames it to "Biscuits"
      And it is requested again 5 s later
      Then the answer is titled "Biscuits"

    Scenario: C42 is down for 10 minutes, and has never been asked for the event
      Given C42 is broken
      And 5 other events have been requested
      When "Tea" is requested every 10 s for 10 minutes
      Then each time the app is told that C42 is down or broken
      When C42 is well again
      And it is requested again 5 s later
      Then it names Arthur

    Scenario: C42 is down, and then answers somebody who asked before
      Given the proxy is set to give C42 30 s for an answer
      And "Tea" has been requested
      And another event is being requested 5 minutes later, and C42 does not answer yet
      And C42 is broken
      And 5 other events have been requested
      And C42 renames "Tea" to "Biscuits"
      And C42 is well again
      When "Tea" is requested
      Then the answer is titled "Tea"
      When C42 answers those who still wait
      And "Tea" is requested until the answer changes
      Then the answer is titled "Biscuits"

    # This driver's proxies are one after the other.
    @not.with_driver=live
    Scenario: C42 is down, and then answers somebody who asked another proxy before
      Given the proxies remember answers in one place
      And the proxy is set to give C42 30 s for an answer
      And "Tea" has been requested
      And apps request from a second proxy
      And another event is being requested 5 minutes later, and C42 does not answer yet
      And C42 is broken
      And 5 other events have been requested
      And C42 renames "Tea" to "Biscuits"
      And C42 is well again
      And apps request from the first proxy again
      When "Tea" is requested
      Then the answer is titled "Tea"
      When C42 answers those who still wait
      And "Tea" is requested 1 s later, until the answer changes
      Then the answer is titled "Biscuits"

    Scenario: what failed less than 1 s ago is not tried again for an expired answer
      Given "Tea" has been requested
      And C42 is broken
      And it has been requested again 4 minutes 59.5 s later
      When it is requested again 0.5 s later
      Then it names Arthur
      And the answer is marked as expired 48 s ago, without asking C42
      And C42 has been asked twice

  Rule: Neither a deleted event nor a refused token is hidden behind an expired answer

    Scenario: C42 says that the event was deleted, and fails after that
      Given "Tea" has been requested
      And C42 deletes it
      When it is requested again 5 minutes later
      Then the app is told that there is no such event
      When C42 is broken
      And it is requested again 5 minutes later
      Then the app is told that C42 cannot be reached or is broken

    Scenario: C42 says that the event was deleted, too late for that answer to be remembered, and fails after that
      Given the proxy is set to reuse answers for 2 s
      And "Tea" has been requested
      And C42 deletes it
      And C42 takes 3 s to answer
      And it has been requested again 5 minutes later
      And C42 is broken
      When it is requested again 2 s later
      Then the app is told that C42 cannot be reached or is broken

    Scenario Outline: C42 refuses the token, and the event is requested once more <wait> after that
      Given "Tea" has been requested
      And C42 refuses the proxy's token
      And it has been requested again 5 minutes later
      When it is requested again <wait> later
      Then the app is told that C42 refuses the proxy's token
      When it is requested again 0.1 s later
      Then the app is told that C42 refuses the proxy's token

      Examples: while C42 is not asked again, and after that
        | wait  |
        | 0.5 s |
        | 5 s   |

    Scenario: an answer that has not expired needs no token
      Given "Tea" has been requested
      And C42 refuses the proxy's token
      When it is requested again 4 minutes 11.999 s later
      Then it names Arthur
      When it is requested again 0.001 s later
      Then the app is told that C42 refuses the proxy's token
