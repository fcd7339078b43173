Feature: Reusing an answer for 4.2 minutes
  In order to stay within the number of calls that C42 allows a token
  As the operator of the proxy
  I want an answer to be reused for 4.2 minutes, and while C42 is well not a moment longer

  4.2 minutes are 4 minutes 12 s.

  Background:
    Given the event "Tea" with the subscriber Arthur
    And the event "Coffee" with the subscriber Ford

  @exercise
  Rule: An answer is reused for 4 minutes 12 s, counted from the moment C42 was asked

    Scenario Outline: an event is requested again <wait> later
      Given "Tea" has been requested
      When it is requested again <wait> later
      Then it names Arthur
      And C42 has been asked <times>

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

    Scenario Outline: C42 takes 3 s to answer, and the event is requested again <wait> after C42 was asked
      Given C42 takes 3 s to answer
      And "Tea" has been requested
      When it is requested again <wait> after C42 was asked
      Then C42 has been asked <times>

      Examples: 4 minutes 12 s from the question, not from the answer
        | wait               | times |
        | 4 minutes 11.999 s | once  |
        | 4 minutes 12 s     | twice |

    Scenario: reading an answer does not prolong its life
      Given "Tea" has been requested
      And it has been requested again 4 minutes later
      When it is requested again 12 s later
      Then C42 has been asked twice

  Rule: While C42 answers, what changes there shows 4 minutes 12 s after C42 was asked, and not before
    Where C42 fails, an answer may be given for longer: see "Riding out an outage".

    Scenario: an event is renamed
      Given "Tea" has been requested
      And C42 renames it to "Biscuits"
      When it is requested again 4 minutes 11.999 s later
      Then the answer is titled "Tea"
      When it is requested again 0.001 s later
      Then the answer is titled "Biscuits"

    Scenario: an event is deleted
      Given "Tea" has been requested
      And C42 deletes it
      When it is requested again 4 minutes 11.999 s later
      Then it names Arthur
      When it is requested again 0.001 s later
      Then the app is told that there is no such event

    Scenario: somebody joins
      Given "Tea" has been requested
      And Zaphod joins it at the top of its list
      When it is requested again 4 minutes 11.999 s later
      Then it names Arthur
      When it is requested again 0.001 s later
      Then it names Zaphod and Arthur

    Scenario: somebody leaves, and is invited again
      Given the event "Dinner" with the subscribers Zaphod and Trillian
      And "Dinner" has been requested
      And Zaphod leaves it
      When it is requested again 4 minutes 11.999 s later
      Then it names Zaphod and Trillian
      When it is requested again 0.001 s later
      Then it names Trillian
      When Zaphod is invited to it again
      And it is requested again 4 minutes 12 s later
      Then it names Zaphod and Trillian

    Scenario: somebody changes their first name
      Given the event "Dinner" with the subscribers Zaphod and Trillian
      And "Dinner" has been requested
      And Trillian changes her first name to Tricia
      When it is requested again 4 minutes 11.999 s later
      Then it names Zaphod and Trillian
      When it is requested again 0.001 s later
      Then it names Zaphod and Tricia

    Scenario: an event is created just after somebody opened its link
      Given the event "Dinner", which C42 does not have yet
      And it has been requested
      And C42 creates it, with the subscribers Zaphod and Trillian
      When it is requested again 4 minutes 11.999 s later
      Then the app is told that there is no such event
      When it is requested again 0.001 s later
      Then it names Zaphod and Trillian

  @exercise
  Rule: Each event has 4 minutes 12 s of its own

    Scenario: two events
      Given "Tea" has been requested
      When "Coffee" is requested 4 minutes later
      And it is requested again 12 s later
      Then it names Ford
      And C42 has been asked for "Coffee" once
      When "Tea" is requested
      Then it names Arthur
      And C42 has been asked for "Tea" twice

  Rule: "There is no such event" is an answer, and reused like one

    Scenario Outline: <which> is requested again <wait> later
      Given <which>
      And it has been requested
      When it is requested again <wait> later
      Then the app is told that there is no such event
      And C42 has been asked <times>

      Examples: before 4 minutes 12 s
        | which                       | wait               | times |
        | an event that never existed | 4 minutes 11.999 s | once  |
        | a deleted event             | 4 minutes 11.999 s | once  |

      Examples: from 4 minutes 12 s on
        | which                       | wait           | times |
        | an event that never existed | 4 minutes 12 s | twice |
        | a deleted event             | 4 minutes 12 s | twice |

  @exercise
  Rule: A failure is no answer: it is not reused for 4 minutes 12 s
    "Sparing C42" says how soon C42 is asked again after a failure.

    Scenario Outline: C42 <fails>, and recovers
      Given C42 <fails>
      And "Tea" has been requested
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
    Apps, and stations on the way to them, may keep the answer until then. It is 1 to 2 s before the proxy itself asks C42 again,
    because some stations use an answer up to the end of the second that they are told. Others count from when the answer was
    sent, so each answer says that as well.

    Scenario: the first reader and a late one
      When "Tea" is requested
      Then the answer is valid until 4 minutes 11 s after C42 was asked
      When it is requested again 3 minutes later
      Then the answer is valid until 4 minutes 11 s after C42 was asked

    Scenario: C42 is asked in the middle of a second
      When "Tea" is requested 0.6 s later
      Then the answer is valid until 4 minutes 10.4 s after C42 was asked

    Scenario: an event that is not there
      Given a deleted event
      When it is requested
      Then the answer is valid until 4 minutes 11 s after C42 was asked

    # The other drivers leave the clock of the server as it is.
    @use.with_driver=asgi @use.with_driver=command @use.with_driver=stack
    Scenario: an answer says when it was sent, however long C42 took
      Given C42 takes 3 s to answer
      When "Tea" is requested
      Then the answer says that it was sent just now
      When it is requested again 1 minute later
      Then the answer says that it was sent just now

    Scenario: an app whose answer is still valid is not sent it again
      Given "Tea" has been requested
      When the app asks 1 minute later whether its answer is still valid
      Then the app is told that its answer is still valid, and is not sent it again
      And the answer is valid until 4 minutes 11 s after C42 was asked
      And C42 has been asked once

    Scenario: an app whose answer has expired is sent the new one
      Given "Tea" has been requested
      And C42 renames it to "Biscuits"
      When the app asks 4 minutes 12 s later whether its answer is still valid
      Then the answer is titled "Biscuits"

  Rule: An answer says where it comes from

    # nginx marks its own hits, and cannot say for how long they are valid.
    @not.with_driver=stack
    Scenario: an answer that is new, then remembered, then renewed
      When "Tea" is requested
      Then the answer comes from C42 and is remembered
      When it is requested again 37 s later
      Then the answer is a remembered one, valid for another 3 minutes 35 s
      When it is requested again 4 minutes later
      Then the answer comes from C42, in place of an expired one, and is remembered

    Scenario: an answer that has expired when it arrives is given, but not remembered
      Given the proxy is set to reuse answers for 2 s
      And C42 takes 3 s to answer
      When "Tea" is requested
      Then it names Arthur
      And the answer must not be kept
      And the answer came too late to be remembered

  Rule: What proxies remember in one place, all of them give
    The operator decides where answers are remembered: in a file for the proxies of one machine, or in a service for several
    machines. A proxy that remembers in its own memory alone forgets with each restart.

    Scenario Outline: <what happens>
      Given the proxies remember answers in one place
      And "Tea" has been requested
      When <what happens>
      And it is requested again 4 minutes 11.999 s later
      Then it names Arthur
      And the answer comes from another proxy than the first one
      And C42 has been asked once
      When it is requested again 0.001 s later
      Then C42 has been asked twice

      Examples: whichever proxy gives the answer
        | what happens                     |
        | the proxy is restarted           |
        | apps request from a second proxy |

  Rule: Memory is bounded: what has not been requested for the longest is forgotten first
    The operator decides how much room there is. An answer that is larger than that is not remembered.

    # Redis is bounded by its own operator, and the SQLite file forgets what is oldest.
    @use.with_store=memory
    Scenario: room for two answers, but not for a large one
      Given the event "Biscuits" with the subscriber Zaphod
      And the event "Dinner" with 250 subscribers
      And the proxy has room for two answers
      And "Tea" has been requested
      And "Coffee" has been requested
      And "Tea" has been requested
      And "Biscuits" has been requested
      When "Tea" is requested
      Then C42 has been asked for "Tea" once
      When "Coffee" is requested
      Then C42 has been asked for "Coffee" twice
      When "Dinner" is requested
      Then all 250 subscribers are named, in C42's order
      And the answer comes from C42, and is not remembered
      When "Dinner" is requested
      Then C42 has been asked for "Dinner" twice
