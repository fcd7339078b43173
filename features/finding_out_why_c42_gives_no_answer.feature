Feature: Finding out why C42 gives no answer
  In order to mend what keeps C42's answers from the apps
  As the operator of the proxy
  I want to read what C42, or the network on the way to it, did

  Background:
    Given the event "Tea" with the subscriber Arthur
    And the event "Coffee" with the subscriber Ford

  # The log is read, and the operators' port is asked, in the process of the features.
  @not.with_driver=live @not.with_driver=stack @not.with_driver=command
  Rule: The operator reads why there is no answer
    The log has a line when a kind of failure begins, and each request that got no new answer has its cause.

    Scenario: C42 is well
      When "Tea" is requested
      Then it names Arthur
      And the operator reads no warning

    Scenario: C42's answer is as long as it may be
      Given C42 answers with 4 megabytes
      When "Tea" is requested
      Then it names Arthur
      And the operator reads no warning

    Scenario Outline: C42 <fails>
      Given C42 <fails>
      When "Tea" is requested
      Then the operator reads why: "<why>"

      Examples: it answers something else
        | fails                                        | why                                                 |
        | is broken                                    | status 500                                          |
        | refuses the proxy's token                    | status 401                                          |
        | refers the proxy to another address          | status 302                                          |
        | asks to wait 7 s                             | status 429                                          |
        | answers nonsense                             | it is not JSON                                      |
        | answers with an empty list alone             | it has another shape than C42's API promises        |
        | answers with a list of lists, 100,000 deep   | it has another shape than C42's API promises        |
        | answers with a number that is none           | it is not JSON                                      |
        | answers with another event                   | it is not about the event that was asked for        |
        | answers with garbled text                    | a text in it is not Unicode                         |
        | answers with more than 4 megabytes           | it is too long                                      |
        | does not say who a subscriber is             | a subscription that is not removed has no subscriber |
        | lists more subscribers than it was asked for | it holds more subscriptions than were asked for     |
        | lists the subscribers of another event       | it holds subscriptions of another event             |

    Scenario: an event whose subscribers cannot be found
      Given C42 says that there is no such thing when asked for the subscribers
      When "Tea" is requested
      Then the operator reads why: "it was a 404 for the list of subscriptions"

    Scenario: C42 fails when the app has its answer already
      Given a deleted event
      And C42 answers neither question before it has received both
      And C42 is broken when asked for the subscribers, but not before the app is answered
      When it is requested
      Then the app is told that there is no such event
      And the operator soon reads the warning "C42 fails: status 500" once

    # A network is needed that fails.
    @use.with_driver=sockets
    Scenario Outline: on the network C42 <is>
      Given on the network C42 <is>
      When "Tea" is requested
      Then the app is told that C42 cannot be reached or is broken
      And the operator reads why: "<why>"

      Examples: no connection, or one that breaks
        | is                                       | why                                 |
        | has no name that is known                | its name does not resolve           |
        | refuses connections                      | connection refused                  |
        | is where nothing leads to                | no route to it                      |
        | hangs up without an answer               | connection closed without an answer |
        | breaks off without an answer             | connection reset                    |
        | breaks off within its answer             | connection reset                    |
        | hangs up at the head of its answer       | answer cut short                    |
        | hangs up before the text of its answer   | answer cut short                    |
        | hangs up within its answer               | answer cut short                    |
        | hangs up between two parts of its answer | answer cut short                    |
        | is a mail server                         | no HTTP there                       |

      Examples: a certificate that is not right
        | is                                        | why                          |
        | has a certificate of an unknown authority | certificate not trusted      |
        | has a certificate for another name        | certificate for another name |
        | has a certificate for another address     | certificate for another name |
        | has a certificate that has expired        | certificate not valid today  |
        | has no certificate                        | no TLS there                 |
        | wants a certificate of the proxy          | TLS failed                   |

      Examples: a gateway (an HTTP proxy)
        | is                                        | why                                             |
        | is behind a gateway that is not there     | HTTP proxy: connection refused                  |
        | is behind a gateway without a name        | HTTP proxy: its name does not resolve           |
        | is behind a gateway that wants a password | HTTP proxy: status 407                          |
        | is behind a gateway that hangs up         | HTTP proxy: connection closed without an answer |
        | is behind a gateway that is a mail server | HTTP proxy: no HTTP there                       |

    # As above.
    @use.with_driver=sockets
    Scenario Outline: the answer is not what it should be, because on the network C42 <does>
      Given on the network C42 <does>
      When "Tea" is requested
      Then the app is told that C42's answer cannot be used
      And the operator reads why: "<why>"

      Examples: it does not say clearly where its answer begins and ends
        | does                                          | why                            |
        | says in two ways how long its answer is       | it has no single length        |
        | says in letters how long its answer is        | it has no single length        |
        | packs its answer in a way that is not known   | its transfer coding is unknown |
        | says that its answer is packed, and it is not | its content encoding is broken |
        | sends a line without meaning before its answer | a line of its head is no header |
        | sends a line without meaning behind others    | a line of its head is no header |
        | begins like a mailbox                         | a line of its head is no header |
        | sends a hundred lines before its answer       | its head is too long           |
        | sends one very long line before its answer    | its head is too long           |

    # As above.
    @use.with_driver=sockets
    Scenario Outline: there is no whole answer in time, because on the network C42 <does>
      Given on the network C42 <does>
      And the proxy is set to give C42 0.5 s for an answer
      When "Tea" is requested
      Then the app is told that C42 did not answer in time
      And the operator reads why: "<why>"

      Examples: whatever it does with the time
        | does                                  | why                   |
        | takes no connection                   | timed out             |
        | says nothing                          | timed out             |
        | sends a letter at a time              | timed out             |
        | sends a letter of the head at a time  | timed out             |
        | sends a head without end              | timed out             |
        | sends hints without end               | timed out             |
        | is behind a gateway that says nothing | HTTP proxy: timed out |
        | is silent behind a gateway            | timed out             |

    # As above.
    @use.with_driver=sockets
    Scenario: an answer whose head is longer than a megabyte is not waited for
      Given on the network C42 sends a head of long lines without end
      And the proxy is set to give C42 30 s for an answer
      When "Tea" is requested
      Then the app is told that C42 did not answer in time
      And the operator reads why: "timed out"
      And it has waited 0 s

  # As above.
  @not.with_driver=live @not.with_driver=stack @not.with_driver=command
  Rule: The operator reads how long C42 took, once for each time that it was asked
    Requests that share the answer of another one took no time of C42.

    Scenario: ten people open the same invitation
      When "Tea" is requested by 10 people at once
      Then the operator reads how long C42 took once

  # As above.
  @not.with_driver=live @not.with_driver=stack @not.with_driver=command
  Rule: What goes on is read once, and so is its end

    Scenario: a failure goes on, and ends
      Given C42 is broken
      And "Tea" has been requested 3 times, 2 s apart
      Then the operator reads the warning "C42 fails: status 500" once
      When C42 is well again
      And it is requested again 2 s later
      And "Coffee" is requested
      Then the operator reads the note "C42 answers again. It was: C42 fails: status 500" once

    Scenario: two kinds of failure go on
      Given C42 is broken when asked for the event
      And C42 refuses the proxy's token when asked for the subscribers
      And C42 answers neither question before it has received both
      When "Tea" is requested
      Then the operator reads the warning "C42 fails: status 500" once
      And the operator reads the error "C42 refuses our token: status 401" once

    # In real time, nobody waits for 10 s.
    @not.with_driver=sockets
    Scenario Outline: a failure is over after 2 s, and comes again <wait> later
      Given C42 is broken
      And "Tea" has been requested
      And C42 is well again
      And "Tea" has been requested 2 s later
      And C42 is broken
      When "Coffee" is requested <wait> later
      Then the operator reads the warning "C42 fails: status 500" <times>

      Examples: less than 10 s after it began, and from then on
        | wait  | times |
        | 7.9 s | once  |
        | 8 s   | twice |

    Scenario: C42 is asked no more, and is asked again
      Given 10 other events, each with the subscriber Trillian
      And C42 is broken
      And 5 other events have been requested
      Then the operator reads the warning "the circuit breaker has opened: C42 is not asked for 5 s" once
      When "Tea" is requested
      And it is requested again 5 s later
      Then the operator reads the note "the circuit breaker is half-open: one request at a time probes C42" once
      And the operator reads the warning "the circuit breaker has opened: C42 is not asked for 5 s" twice
      When C42 is well again
      And it is requested again 5 s later
      Then the operator reads the note "the circuit breaker has closed: C42 is asked again" once

    Scenario: a proxy asks C42 no more, and another one learns of it
      Given the proxies remember answers in one place
      And 10 other events, each with the subscriber Trillian
      And "Tea" has been requested
      And apps request from a second proxy
      And C42 is broken
      And 5 other events have been requested
      Then the operator reads the warning "the circuit breaker has opened: C42 is not asked for 5 s" once
      When apps request from the first proxy again
      And "Coffee" is requested
      Then the operator reads the warning "the circuit breaker has opened: C42 is not asked for 5 s" twice

  # As above.
  @not.with_driver=live @not.with_driver=stack @not.with_driver=command
  Rule: The operator is shown what is wrong with C42 at the moment
    Other programs look at it, too. What is over is not shown.

    Scenario: C42 asks to wait
      Given C42 asks to wait 30 s
      And "Tea" has been requested
      Then the operator is shown that C42 asks to wait, for another 30 s
      When C42 is well again
      And it is requested again 30 s later
      Then the operator is shown that nothing is wrong

    Scenario: C42 is down
      Given 10 other events, each with the subscriber Trillian
      And C42 is broken
      And 4 other events have been requested
      Then the operator is shown that nothing is wrong
      When "Tea" is requested
      Then the operator is shown that C42 is down, for another 5 s
      When C42 is well again
      And it is requested again 5 s later
      Then the operator is shown that nothing is wrong

    Scenario: a second proxy learns that C42 asks to wait
      Given the proxies remember answers in one place
      And C42 asks to wait 30 s
      And "Tea" has been requested
      When apps request from a second proxy
      And "Coffee" is requested 10 s later
      Then the operator is shown that C42 asks to wait, for another 20 s

    # The figures of the Flask app alone do not tell which answers were given at once.
    @not.with_driver=flask
    Scenario: an expired answer costs no more than a remembered one while C42 asks to wait
      Given "Coffee" has been requested
      And C42 asks to wait 10 minutes
      And "Tea" has been requested 5 minutes later
      When "Coffee" is requested every 1 s for 1 minute
      Then each time it names Ford
      And the operator is shown that at least 40 of 60 expired answers were given at once

    Scenario: C42 is asked however often it fails
      Given the proxy is set to ask C42 however often it fails
      And 10 other events, each with the subscriber Trillian
      And C42 is broken
      And 6 other events have been requested
      Then the operator is shown that nothing is wrong

    Scenario: C42 refuses the token
      Given C42 refuses the proxy's token
      And "Tea" has been requested
      Then the operator is shown that C42 refuses the token
      When C42 is broken
      And it is requested again 2 s later
      Then the operator is shown that C42 refuses the token
      When C42 is well again
      And it is requested again 2 s later
      Then the operator is shown that nothing is wrong

    Scenario: C42 refuses the token, and accepts it after the clock was set back
      Given C42 refuses the proxy's token
      And "Tea" has been requested
      And the clock is set back by 1 hour
      And C42 is well again
      When "Tea" is requested
      Then the operator is shown that nothing is wrong

  Rule: C42's own operators can find the request that was behind a question

    Scenario: an app gives its request an id
      Given an event that never existed
      When it is requested by an app with an id for its request, and a trace
      Then C42 has been told the id and the trace of the request

  # The rules below are about a network.
  @use.with_driver=sockets
  Rule: An answer that comes in an unusual way is an answer

    Scenario Outline: on the network C42 <is>
      Given on the network C42 <is>
      When "Tea" is requested
      Then it names Arthur
      When "Coffee" is requested
      Then it names Ford
      And C42 has been asked with the proxy's token alone
      And the operator reads no warning

      Examples: with a certificate, and through a gateway
        | is                                         |
        | is well, with a certificate                |
        | is behind a gateway                        |
        | is behind a gateway, without a certificate |

      Examples: in another form
        | is                            |
        | sends hints before its answer |
        | sends its answer in pieces    |
        | packs its answer              |

      Examples: on connections that end
        | is                                                       |
        | hangs up after each answer                               |
        | hangs up when it is asked again                          |
        | breaks off when it is asked again                        |
        | is behind a gateway, and hangs up when it is asked again |

      Examples: whatever others advise
        | is                                                        |
        | gives out cookies, and answers nobody who has one         |
        | is on a machine that sends all programs through a gateway |

  @use.with_driver=sockets
  Rule: Of several addresses of C42, one that answers is enough
    Which one answers is remembered.

    Scenario Outline: on the network C42 <has>
      Given on the network C42 <has>
      And the proxy is set to give C42 30 s for an answer
      When "Tea" is requested
      Then it names Arthur
      And it has waited <seconds>
      When "Coffee" is requested
      Then it names Ford
      And it has waited 0 s
      And the operator reads no warning

      Examples: nobody is there, nothing leads there, or it says nothing
        | has                                               | seconds |
        | has two addresses, and nobody is at the first     | 0 s     |
        | has two addresses, and nothing leads to the first | 0 s     |
        | has six addresses, and the first five are dead    | 2.5 s   |
