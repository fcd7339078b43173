Feature: Combining an event with its subscribers
  In order to show an event and the people who come to it with one request
  As the maker of an app on Calendar42
  I want the proxy to combine what C42 knows of the two

  @exercise
  Rule: An answer is the event's id, its title, and the first names of its subscribers

    Scenario: an event with two subscribers
      Given the event "Tea" with the subscribers Zoë and Ford
      When it is requested
      Then the answer says this, and nothing else
        """
        {"id": "ID", "title": "Tea", "names": ["Zoë", "Ford"]}
        """

    Scenario: an event without a title
      Given an event without a title, with the subscriber Arthur
      When it is requested
      Then the answer has no title
      And it names Arthur

    Scenario: text of every script passes unchanged
      Given the event "Καφές · قهوة · ☕" with the subscribers Ελένη, さくら, ليلى and 👩🏽‍🚀
      When it is requested
      Then the answer is titled "Καφές · قهوة · ☕"
      And it names Ελένη, さくら, ليلى and 👩🏽‍🚀

  Rule: An answer is as short as it can be, and always in the same order

    Scenario: two subscribers, letter by letter
      Given the event "Tea" with the subscribers Zoë and Ford
      When it is requested
      Then the answer is exactly this
        """
        {"id":"ID","title":"Tea","names":["Zoë","Ford"]}
        """

  @exercise
  Rule: All subscribers are named, however many there are
    C42 lists up to a hundred subscribers at a time, on a page. The proxy asks for as many pages as it takes, and no more.

    Scenario Outline: <number> subscribers
      Given the event "Tea" with <number> subscribers
      When it is requested
      Then all <number> subscribers are named, in C42's order
      And C42 has been asked for <pages> of subscribers, each once

      Examples: up to 100, one page
        | number | pages  |
        | 0      | 1 page |
        | 1      | 1 page |
        | 25     | 1 page |
        | 100    | 1 page |

      Examples: from 101 on, more pages
        | number | pages    |
        | 101    | 2 pages  |
        | 200    | 2 pages  |
        | 250    | 3 pages  |
        | 1000   | 10 pages |

    Scenario: a page in the middle of the list holds fewer than a hundred subscribers
      Given the event "Tea" with 250 subscribers
      And C42 lists no more than 60 subscribers when asked for the second page
      When it is requested
      Then all 250 subscribers are named, in C42's order

    Scenario: two people of the same name are two people
      Given the event "Tea" with the subscribers Arthur, Ford and Arthur
      When it is requested
      Then it names Arthur, Ford and Arthur

  @exercise
  Rule: Whoever is not subscribed any more, or has no first name, is left out

    Scenario Outline: a subscriber <who>
      Given the event "Tea" with the subscribers Arthur and Ford
      And between the two a subscriber <who>
      When it is requested
      Then it names Arthur and Ford, although C42 lists 3 subscribers

      Examples: not subscribed any more
        | who                            |
        | whose subscription was removed |

      Examples: without a first name
        | who                            |
        | without a first name           |
        | whose first name is empty      |
        | whose first name is all spaces |

  @exercise
  Rule: Whoever is subscribed is named, whatever they have answered to the invitation

    Scenario Outline: a subscriber who <has answered>
      Given the event "Tea" with the subscriber Arthur
      And the next subscriber is Zaphod, who <has answered>
      When it is requested
      Then it names Arthur and Zaphod

      Examples: whatever the answer, or none
        | has answered     |
        | has not answered |
        | comes            |
        | may come         |
        | does not come    |

  Rule: Anybody who reaches the proxy may ask
    The proxy does not ask who an app is, and asks C42 with its own token alone. The operator decides who can reach
    the proxy.

    Scenario Outline: an app with <what>
      Given the event "Tea" with the subscriber Arthur
      When it is requested by an app with <what>
      Then it names Arthur
      And C42 has been asked with the proxy's token alone

      Examples: whatever it says of itself
        | what               |
        | nothing to show    |
        | a token of its own |
        | a cookie           |

  Rule: A browser shows an answer to a page of another site only if the operator allows that site
    When a page requests something from another site, the browser shows the answer to the page only if the answer allows it.
    The operator decides which sites the proxy's answers allow; without a decision, none. Other programs than browsers do not
    look at that.

    Scenario Outline: no site is allowed, and a page of another site requests <which>
      Given <which>
      When it is requested by a page of app.example
      Then the app is told that <outcome>
      And no browser shows the answer to the page

      Examples: an event, and none
        | which                                        | outcome                |
        | the event "Tea" with the subscriber Arthur   | Arthur comes           |
        | a deleted event                              | there is no such event |

    Scenario: no site is allowed, and a browser asks whether a page of another site may request an event
      Given the event "Tea" with the subscriber Arthur
      When a browser asks whether a page of app.example may request it
      Then the app is told that this address can only be read
      And no browser shows the answer to the page
      And C42 has been asked for nothing

    Scenario Outline: two sites are allowed, and a page of <site> requests an event
      Given the event "Tea" with the subscriber Arthur
      And the proxy is set to allow pages of app.example and shop.example
      When it is requested by a page of <site>
      Then the app is told that Arthur comes
      And <consequence>

      Examples: one of the two
        | site         | consequence                               |
        | app.example  | a browser shows the answer to the page    |
        | shop.example | a browser shows the answer to the page    |

      Examples: another one
        | site                     | consequence                            |
        | another.example          | no browser shows the answer to the page |
        | my.app.example           | no browser shows the answer to the page |
        | app.example.thief.example | no browser shows the answer to the page |

    Scenario: two sites are allowed, and pages of both request the same event
      Given the event "Tea" with the subscriber Arthur
      And the proxy is set to allow pages of app.example and shop.example
      When it is requested by a page of app.example
      Then a browser shows the answer to the page
      When it is requested by a page of shop.example
      Then a browser shows the answer to the page
      When it is requested by a page of another.example
      Then no browser shows the answer to the page
      And C42 has been asked once

    Scenario Outline: a problem is shown to a page of a site that is allowed: <problem>
      Given the event "Tea" with the subscriber Arthur
      And the proxy is set to allow pages of app.example and shop.example
      And C42 <fails>
      When it is requested by a page of app.example
      Then the app is told that <problem>
      And a browser shows the answer to the page

      Examples: whatever it is
        | fails                | problem                            |
        | is broken            | C42 cannot be reached or is broken |
        | asks to wait 7 s     | C42 asks to wait, for 7 s          |
        | says that there is no such thing | there is no such event |

    Scenario Outline: two sites are allowed, and a browser asks whether a page of <site> may request an event
      Given the event "Tea" with the subscriber Arthur
      And the proxy is set to allow pages of app.example and shop.example
      When a browser asks whether a page of <site> may request it
      Then <consequence>
      And C42 has been asked for nothing

      Examples: one of the two, and another one
        | site            | consequence                                       |
        | shop.example    | the browser lets the page send its request        |
        | another.example | the browser does not let the page send its request |

    Scenario: every site is allowed
      Given the event "Tea" with the subscriber Arthur
      And the proxy is set to allow pages of every site
      When it is requested by a page of another.example
      Then the app is told that Arthur comes
      And a browser shows the answer to the page
      When a browser asks whether a page of another.example may request it
      Then the browser lets the page send its request

  Rule: A list that changes while it is read is read once more
    On each page C42 says how many subscribers there are. If two pages differ in that, somebody has joined or left in the
    meantime, and somebody else may have moved to a page that was read before. What the second reading gives is the answer,
    and it names nobody twice.

    Scenario Outline: somebody <changes> a list of <before> between two pages
      Given the event "Tea" with <before> subscribers
      And somebody <changes> the list at its top when C42 is first asked for the second page
      When it is requested
      Then all <number> subscribers are named, in C42's order
      And C42 has been asked for <pages> of subscribers, each twice

      Examples: those below move down or up
        | changes | before | number | pages   |
        | joins   | 150    | 151    | 2 pages |
        | leaves  | 150    | 149    | 2 pages |
        | joins   | 250    | 251    | 3 pages |
        | leaves  | 250    | 249    | 3 pages |

    Scenario: somebody joins the list in the second reading, too
      Given the event "Tea" with 150 subscribers
      And somebody joins the list at its top each time that C42 is asked for the second page
      When it is requested
      Then the 151 subscribers who were there when the second reading began are named, in C42's order
      And C42 has been asked for 2 pages of subscribers, each twice

  Rule: An event that is not there is reported as not found
    C42 says the same of an event that does not exist and of one that the proxy may not see, and so does the proxy.

    Scenario Outline: <which> is requested
      Given <which>
      When it is requested
      Then the app is told that there is no such event

      Examples: it never existed, was deleted, or is not to be seen
        | which                                      |
        | an event that never existed                |
        | a deleted event                            |
        | an event that C42 leaves out of its answer |

  @exercise
  Rule: Nothing but the event's id changes the answer

    Scenario: an unknown addition to the address
      Given the event "Tea" with the subscriber Arthur
      When it is requested with an unknown addition to the address
      Then it names Arthur
      When it is requested
      Then it names Arthur
      And C42 has been asked once

  Rule: An app waits for the slower of the two questions to C42, not for both
    C42 is asked for the event and for its subscribers at the same time. When the first page says how many subscribers there
    are, up to 8 more pages are asked for at the same time.

    Scenario: both questions are on their way together
      Given the event "Tea" with the subscriber Arthur
      And C42 answers neither question before it has received both
      When it is requested
      Then it names Arthur
      And C42 has received both questions before it answered

    Scenario: the pages after the first are on their way together
      Given the event "Tea" with 900 subscribers
      And C42 answers no page after the first before it has been asked for 8 of them
      When it is requested
      Then all 900 subscribers are named, in C42's order
      And C42 has received the questions for all later pages before it answered one
      And C42 has been asked for 9 pages of subscribers, each once

    Scenario: a list with more pages than are asked for at the same time
      Given the event "Tea" with 1300 subscribers
      And C42 takes a moment for each page
      When it is requested
      Then all 1300 subscribers are named, in C42's order
      And C42 has been asked for several pages at the same time, but for no more than 8
