Feature: Reusing an answer for 4.2 minutes
  In order to stay within the number of calls that C42 allows a token
  As the operator of the proxy
  I want an answer to be reused for 4.2 minutes, and while C42 is well not a moment longer

  To an event of which nothing else is said, Arthur comes.

  Rule: An answer is reused for 4.2 minutes, counted from the moment C42 was asked
    4.2 minutes are 4 minutes and 12 seconds.

    Scenario Outline: requested again <wait> later
      Given "Coffee with the C42 team" has been requested
      When it is requested again <wait> later
      Then C42 has been asked <times>

      Examples: before 4 minutes 12 s
        | wait               | times |
        | 0 s                | once  |
        | 1 minute           | once  |
        | 4 minutes 11 s     | once  |
        | 4 minutes 11.999 s | once  |

      Examples: from 4 minutes 12 s on
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

    Scenario: what is changed at C42 shows after 4.2 minutes at the latest
      Given "Tea" has been requested
      And C42 renames it to "Biscuits"
      When it is requested again 4 minutes 11.999 s later
      Then the answer is titled "Tea"
      When it is requested again 0.001 s later
      Then the answer is titled "Biscuits"

    Scenario: what is deleted at C42 is shown for 4.2 minutes at the longest
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

    Scenario Outline: requested is <which>, and again <wait> later
      Given <which>
      And it has been requested
      When it is requested again <wait> later
      Then the app is told that there is no such event
      And C42 has been asked <times>

      Examples: before 4 minutes 12 s
        | which            | wait               | times |
        | an unknown event | 4 minutes 11.999 s | once  |
        | a deleted event  | 4 minutes 11.999 s | once  |

      Examples: from 4 minutes 12 s on
        | which            | wait           | times |
        | an unknown event | 4 minutes 12 s | twice |
        | a deleted event  | 4 minutes 12 s | twice |

  Rule: A failure is not remembered like an answer
    It is told again for a second at the most, so that those who wait together are told the same.

    Scenario Outline: C42 <fails>, and recovers
      Given the event "Tea" with the subscriber Arthur
      And C42 <fails>
      And it has been requested
      And C42 is well again
      When it is requested again 5 s later
      Then it names Arthur

      Examples: whatever the failure
        | fails                             |
        | is broken                         |
        | cannot be reached                 |
        | does not answer                   |
        | answers nonsense                  |
        | refuses the proxy's token         |
        | stops in the middle of its answer |
        | asks to wait 5 s                  |

  Rule: Everybody is told the same moment until which an answer is valid
    Apps, and stations on the way to them, may keep the answer until then.

    Scenario: the first reader and a late one
      Given "Tea" has been requested
      Then the answer is valid until 4 minutes 12 s after C42 was asked
      When it is requested again 3 minutes later
      Then the answer is valid until 4 minutes 12 s after C42 was asked

    Scenario: an event that is not there
      Given an unknown event
      When it is requested
      Then the answer is valid until 4 minutes 12 s after C42 was asked

    Scenario: an app that has the answer already is told that it is still valid
      Given "Tea" has been requested
      When the app asks 1 minute later whether its answer is still valid
      Then it is told that it does, without being sent it again
      And C42 has been asked once

    Scenario: an app whose answer has expired is sent the new one
      Given "Tea" has been requested
      And C42 renames it to "Biscuits"
      When the app asks 4 minutes 12 s later whether its answer is still valid
      Then the answer is titled "Biscuits"

  Rule: An answer says where it comes from

    Scenario: from C42, from memory, and from C42 again
      Given the event "Tea" with the subscriber Arthur
      When it is requested
      Then the answer comes from C42 and is remembered
      When it is requested again 37 s later
      Then the answer is a remembered one, valid for another 3 minutes 35 s
      When it is requested again 4 minutes later
      Then the answer comes from C42, in place of an expired one, and is remembered

    Scenario: an answer that has expired when it arrives is given, but not remembered
      Given the proxy is set to reuse answers for 2 s
      And C42 takes 3 s to answer
      When "Tea" is requested
      Then the answer must not be kept
      And the answer came too late to be remembered

  Rule: A clock that is set back keeps no answer alive
    Computers' clocks differ a little: up to a second is nothing unusual.

    Scenario Outline: the clock is set back by <step>
      Given "Tea" has been requested
      And the clock is set back by <step>
      When it is requested
      Then C42 has been asked <times>

      Examples: by up to a second
        | step | times |
        | 1 s  | once  |

      Examples: by more than a second
        | step   | times |
        | 1.1 s  | twice |
        | 1 hour | twice |

  Rule: Memory is bounded: what has not been requested for the longest is forgotten first
    How much room there is, the operator decides.

    @use.with_store=memory
    Scenario: room for two
      Given the proxy has room for two answers
      And "Tea" has been requested
      And "Coffee with the C42 team" has been requested
      And "Tea" has been requested
      When "Biscuits" is requested
      Then "Tea" is still remembered
      And "Coffee with the C42 team" is forgotten
