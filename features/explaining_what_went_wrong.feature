Feature: Explaining what went wrong
  In order to tell my users what to do when there is no answer
  As the maker of an app on Calendar42
  I want the proxy to say whose fault it is and whether to try again

  Rule: An app is told what is wrong, in words that it can act on

    Scenario Outline: C42 <fails>
      Given the event "Tea" with the subscriber Arthur
      And C42 <fails>
      When it is requested
      Then the app is told that <problem>
      And the answer must not be kept

      Examples: it cannot be reached
        | fails                             | problem                            |
        | is broken                         | C42 cannot be reached or is broken |
        | is closed for repairs             | C42 cannot be reached or is broken |
        | cannot be reached                 | C42 cannot be reached or is broken |
        | stops in the middle of its answer | C42 cannot be reached or is broken |
        | does not answer                   | C42 did not answer in time         |

      Examples: it refuses
        | fails                                        | problem                       |
        | refuses the proxy's token                    | C42 refuses the proxy's token |
        | does not let the proxy's token read anything | C42 refuses the proxy's token |

      Examples: it answers, but not as it promised
        | fails                                        | problem                     |
        | answers nonsense                             | C42's answer cannot be used |
        | answers with an empty list alone             | C42's answer cannot be used |
        | answers with a list of lists, 100,000 deep   | C42's answer cannot be used |
        | refers the proxy to another address          | C42's answer cannot be used |
        | answers with another event                   | C42's answer cannot be used |
        | answers with two events                      | C42's answer cannot be used |
        | answers with garbled text                    | C42's answer cannot be used |
        | answers with more than 4 megabytes           | C42's answer cannot be used |
        | does not say who a subscriber is             | C42's answer cannot be used |
        | lists more subscribers than it was asked for | C42's answer cannot be used |
        | lists the subscribers of another event       | C42's answer cannot be used |

  Rule: Each problem is explained to those who make the app

    Scenario Outline: what they read when <when>
      Given the event "Tea" with the subscriber Arthur
      And <when>
      When it is requested
      Then the app is told that <problem>
      And the explanation is "<words>"

      Examples: in each case
        | when                      | problem                            | words                                                                                             |
        | C42 deletes it            | there is no such event             | C42 has no event ID that this proxy may see, or it was deleted.                                   |
        | C42 is broken             | C42 cannot be reached or is broken | C42 answered 500. Try again later.                                                                |
        | C42 cannot be reached     | C42 cannot be reached or is broken | C42 cannot be reached or broke off. Try again later.                                              |
        | C42 does not answer       | C42 did not answer in time         | C42 gave no complete answer in time. Try again later.                                             |
        | C42 refuses the proxy's token | C42 refuses the proxy's token  | C42 refuses the token of this proxy. Only the proxy's operator can mend that.                     |
        | C42 answers with another event | C42's answer cannot be used   | C42 gave an answer that cannot be used: it is not about the event that was asked for. Try again later. |
        | C42 asks to wait 7 s      | C42 asks to wait                   | C42 asks us to wait. Try again in 7 s.                                                            |

    Scenario: what they read when C42 is down
      Given the event "Tea" with the subscriber Arthur
      And 5 other events, each with the subscriber Trillian
      And C42 is broken
      And 5 other events have been requested
      When "Tea" is requested
      Then the app is told that C42 is down
      And the explanation is "C42 is down, and is not asked for a moment. Try again in 5 s."

    Scenario Outline: what they read when an app tries to <what>
      Given the event "Tea" with the subscriber Arthur
      When an app tries to <what>
      Then the app is told that <problem>
      And the explanation is "<words>"

      Examples: anything but reading the one address
        | what                        | problem                       | words                                                                                                                       |
        | change the event            | this address can only be read | This address knows GET and HEAD.                                                                                            |
        | read the list of all events | there is no such address      | There is only /events-with-subscriptions/<event_id>/ here, with an event_id of 1 to 128 letters, digits, '-' and '_'. |

    Scenario: a problem as an app is given it
      Given the event "Tea" with the subscriber Arthur
      And C42 is broken
      When it is requested
      Then the problem is exactly this
        """
        {"type":"about:blank","title":"Bad Gateway","status":502,"reason":"c42-unavailable","detail":"C42 answered 500. Try again later.","request_id":"REQUEST"}
        """

  Rule: Each problem has a word for programs, which stays the same when the problem is repeated
    What failed less than 1 s ago is not tried again, but told again.

    Scenario Outline: C42 <fails>, and the event is requested again 0.5 s later
      Given the event "Tea" with the subscriber Arthur
      And C42 <fails>
      And C42 answers neither question before it has received both
      When it is requested
      Then the word for programs is "<word>"
      When it is requested again 0.5 s later
      Then the word for programs is "<word>"
      And C42 has been asked once

      Examples: in each case
        | fails                     | word               |
        | is broken                 | c42-unavailable    |
        | cannot be reached         | c42-unavailable    |
        | does not answer           | c42-timeout        |
        | answers nonsense          | c42-invalid-answer |
        | refuses the proxy's token | c42-refuses-token  |
        | asks to wait 7 s          | c42-asks-to-wait   |

    Scenario Outline: an app tries to <what>
      Given the event "Tea" with the subscriber Arthur
      When an app tries to <what>
      Then the word for programs is "<word>"

      Examples: anything but reading the one address
        | what                        | word               |
        | change the event            | method-not-allowed |
        | read the list of all events | address-not-found  |

  Rule: Nobody waits for C42 for longer than 4 s
    Whoever has to wait until C42 may be asked at all, because somebody else asks it for the same event or because too many
    ask at once, waits for 4 s more at the most. The operator decides how long C42 may take.

    Scenario: C42 does not answer
      Given the event "Tea" with the subscriber Arthur
      And C42 does not answer
      And C42 answers neither question before it has received both
      When it is requested
      Then the app is told that C42 did not answer in time
      And it has waited 4 s

    # The other proxy is the scenario's: a program of somebody else has no way to know of it. In one process no time passes.
    @use.with_driver=live @use.with_driver=sockets @use.with_driver=stack
    Scenario: another proxy asks C42 for the same event, and hangs
      Given the proxies remember answers in one place
      And the event "Tea" with the subscriber Arthur
      And another proxy asks C42 for it, and hangs
      When it is requested
      Then the app is told that C42 did not answer in time
      And it has waited 8 s

  Rule: An app is told how long C42 asks to wait
    Where C42 does not say how long, or nobody can read it, that is 30 s. Where it says more than 1 hour, that is 1 hour.

    Scenario Outline: C42 asks to wait <asked>
      Given the event "Tea" with the subscriber Arthur
      And C42 asks to wait <asked>
      When it is requested
      Then the app is told that C42 asks to wait, for <told>

      Examples: it says how long
        | asked               | told |
        | 7 s                 | 7 s  |
        | until 90 s from now | 90 s |

      Examples: it does not say how long, or nobody can read it
        | asked                           | told |
        | without saying how long         | 30 s |
        | for a time that nobody can read | 30 s |

      Examples: 1 hour at the most
        | asked  | told   |
        | 1 hour | 1 hour |
        | 2 days | 1 hour |

    Scenario: busy, with a time to wait
      Given the event "Tea" with the subscriber Arthur
      And C42 is busy for 12 s
      When it is requested
      Then the app is told that C42 asks to wait, for 12 s

  Rule: An answer is whole or it is not given

    Scenario Outline: the second of three pages is missing because C42 <fails>
      Given the event "Tea" with 250 subscribers
      And C42 <fails> when asked for the second page
      When it is requested
      Then the app is told that <problem>

      Examples: whatever the reason
        | fails            | problem                            |
        | is broken        | C42 cannot be reached or is broken |
        | does not answer  | C42 did not answer in time         |
        | answers nonsense | C42's answer cannot be used        |
        | asks to wait 7 s | C42 asks to wait, for 7 s          |

    Scenario: an event whose subscribers cannot be found
      Given the event "Tea" with the subscriber Arthur
      And C42 says that there is no such thing when asked for the subscribers
      When it is requested
      Then the app is told that C42's answer cannot be used

  Rule: Only reading is offered, and only at the one address

    Scenario Outline: an app tries to <what>
      Given the event "Tea" with the subscriber Arthur
      When an app tries to <what>
      Then the app is told that <problem>
      And C42 has been asked for nothing

      Examples: anything but reading
        | what                        | problem                       |
        | change the event            | this address can only be read |
        | delete the event            | this address can only be read |
        | ask what the address can do | this address can only be read |

      Examples: another address
        | what                                        | problem                  |
        | read the list of all events                 | there is no such address |
        | read the event at an address almost like it | there is no such address |

    Scenario: the closing slash is forgotten
      Given the event "Tea" with the subscriber Arthur
      When it is requested without the closing slash
      Then the app is sent to the address with it

  Rule: A mistake of the proxy is reported as one, without technical detail

    # A bug can be planted in a proxy that the driver makes. These two start programs as they are.
    @not.with_driver=command @not.with_driver=stack
    Scenario: the proxy has a bug
      Given the event "Tea" with the subscriber Arthur
      And the proxy has a bug
      When it is requested
      Then the app is told that the proxy made a mistake
      And the explanation is "The proxy made a mistake. Its operator finds it in the log."
      And nothing of the proxy's insides is shown
