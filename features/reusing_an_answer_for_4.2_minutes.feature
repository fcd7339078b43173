Feature: Reusing an answer for 4.2 minutes
  In order to stay within the number of calls that C42 allows a token
  As the operator of the proxy
  I want an answer to be reused for 4.2 minutes, and not a moment longer

  Rule: An answer is reused for 4.2 minutes, counted from the moment C42 was asked

    Scenario Outline: asking again <wait> later
      Given "Coffee with the C42 team" has been requested
      When it is requested again <wait> later
      Then C42 has been asked <times>

      Examples: within the 4.2 minutes
        | wait               | times |
        | 0 s                | once  |
        | 1 minute           | once  |
        | 4 minutes 11 s     | once  |
        | 4 minutes 11.999 s | once  |

      Examples: after them
        | wait               | times |
        | 4 minutes 12 s     | twice |
        | 4 minutes 12.001 s | twice |
        | 1 day              | twice |

    Scenario Outline: C42 takes 3 s to answer, and the event is requested <wait> after it was asked
      Given C42 takes 3 s to answer
      And "Coffee with the C42 team" has been requested
      When it is requested again <wait> after C42 was asked
      Then C42 has been asked <times>

      Examples: 4 minutes 12 s from the question, not from the answer
        | wait               | times |
        | 4 minutes 11.999 s | once  |
        | 4 minutes 12 s     | twice |

    Scenario: reading an answer does not prolong its life
      Given "Coffee with the C42 team" has been requested
      And it has been requested again 4 minutes later
      When it is requested again 12 s later
      Then C42 has been asked twice

    Scenario: what is changed at C42 shows within 4.2 minutes
      Given "Tea" has been requested
      And C42 renames it to "Biscuits"
      When it is requested again 4 minutes 11.999 s later
      Then the answer is titled "Tea"
      When it is requested again 0.001 s later
      Then the answer is titled "Biscuits"

    Scenario: what is deleted at C42 is gone within 4.2 minutes
      Given "Tea" has been requested
      And C42 deletes it
      When it is requested again 4 minutes 11.999 s later
      Then it names Arthur
      When it is requested again 0.001 s later
      Then the app is told that there is no such event

  Rule: Each event has 4.2 minutes of its own

    Scenario: two events
      Given "Tea" has been requested
      When "Coffee with the C42 team" is requested 1 minute later
      Then C42 has been asked once for each of the two

  Rule: "There is no such event" is an answer, and reused like one

    Scenario Outline: <which>, requested again <wait> later
      Given <which>
      And it has been requested
      When it is requested again <wait> later
      Then the app is told that there is no such event
      And C42 has been asked <times>

      Examples: within the 4.2 minutes
        | which            | wait               | times |
        | an unknown event | 4 minutes 11.999 s | once  |
        | a deleted event  | 4 minutes 11.999 s | once  |

      Examples: after them
        | which            | wait               | times |
        | an unknown event | 4 minutes 12 s     | twice |
        | a deleted event  | 4 minutes 12 s     | twice |

  Rule: A failure is never reused as an answer

    Scenario Outline: C42 <fails>, and recovers
      Given the event "Tea" with the subscriber Arthur
      And C42 <fails>
      And it has been requested
      And C42 is well again
      When it is requested again 5 s later
      Then it names Arthur

      Examples: whatever the failure
        | fails                         |
        | is broken                     |
        | does not answer               |
        | answers nonsense              |
        | refuses the proxy's token     |
        | breaks off in its answer      |
        | asks to wait 5 s              |

  Rule: Everybody is told the same moment until which an answer holds
    Caches on the way, and the app itself, may keep the answer until then.

    Scenario: the first reader and a late one
      Given "Tea" has been requested
      Then the answer holds until 4 minutes 12 s after C42 was asked
      When it is requested again 3 minutes later
      Then the answer holds until 4 minutes 12 s after C42 was asked

    Scenario: an event that is not there
      Given an unknown event
      When it is requested
      Then the answer holds until 4 minutes 12 s after C42 was asked

    Scenario: an app that shows the answer it has is told that it still holds
      Given "Tea" has been requested
      When the app asks 1 minute later whether its answer still holds
      Then it is told that it does, without being sent it again
      And C42 has been asked once

    Scenario: an app whose answer is out of date is sent the new one
      Given "Tea" has been requested
      And C42 renames it to "Biscuits"
      When the app asks 4 minutes 12 s later whether its answer still holds
      Then the answer is titled "Biscuits"

    Scenario: an answer says where it comes from
      Given the event "Tea" with the subscriber Arthur
      When it is requested
      Then the answer comes from C42 and is remembered
      When it is requested again 37 s later
      Then the answer is a remembered one, with 215 s to live
      When it is requested again 4 minutes later
      Then the answer comes from C42, in place of an expired one, and is remembered

    Scenario: an answer that is out of date when it arrives is told, but not remembered
      Given the proxy is set to reuse answers for 2 s
      And C42 takes 3 s to answer
      When "Tea" is requested
      Then the answer may not be kept
      And the answer came too late to be remembered

  Rule: A clock that is set back keeps no answer alive
    Hosts' clocks differ a little: up to a second ahead is nothing unusual.

    Scenario Outline: the clock is set back by <step>
      Given "Tea" has been requested
      And the clock is set back by <step>
      When it is requested
      Then C42 has been asked <times>

      Examples: a little, as clocks differ
        | step   | times |
        | 1 s    | once  |

      Examples: further than that
        | step   | times |
        | 1.1 s  | twice |
        | 1 hour | twice |

  Rule: Memory is bounded: what has not been asked for the longest is forgotten first
    A store that several processes share is bounded as well: there, the oldest goes first.

    @use.with_store=memory
    Scenario: room for two
      Given the proxy has room for two answers
      And "Tea" has been requested
      And "Coffee with the C42 team" has been requested
      And "Tea" has been requested
      When "Biscuits" is requested
      Then "Tea" is still remembered
      And "Coffee with the C42 team" is forgotten
