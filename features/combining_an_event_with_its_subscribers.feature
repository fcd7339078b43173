Feature: Combining an event with its subscribers
  In order to show an event and the people who come to it with one request
  As the maker of an app on Calendar42
  I want the proxy to combine what C42 knows of the two

  Rule: An answer is the event's id, its title, and the first names of its subscribers

    Scenario: an event with two subscribers
      Given the event "Coffee with the C42 team" with the subscribers Arthur and Ford
      When it is requested
      Then the answer is titled "Coffee with the C42 team"
      And it names Arthur and Ford

    Scenario: the answer to the letter
      Given the event "Tea" with the subscribers Zoë and Ford
      When it is requested
      Then the answer reads {"id":"<id>","title":"Tea","names":["Zoë","Ford"]}

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

  Rule: All subscribers are named, however many there are
    C42 tells of a hundred subscribers at a time. The proxy asks for as many pages as it takes, and no more.

    Scenario Outline: <number> subscribers
      Given an event with <number> subscribers
      When it is requested
      Then all <number> subscribers are named, in C42's order
      And C42 has been asked for <pages> of subscribers

      Examples: up to one page
        | number | pages  |
        | 0      | 1 page |
        | 1      | 1 page |
        | 25     | 1 page |
        | 100    | 1 page |

      Examples: more than one page
        | number | pages    |
        | 101    | 2 pages  |
        | 200    | 2 pages  |
        | 250    | 3 pages  |
        | 1000   | 10 pages |

  Rule: Only those who still come and have a first name are named

    Scenario Outline: a subscriber <who>
      Given the event "Tea" with the subscribers Arthur and Ford
      And between the two a subscriber <who>
      When it is requested
      Then it names Arthur and Ford

      Examples: no longer coming
        | who                            |
        | whose subscription was removed |

      Examples: without a name to tell
        | who                            |
        | without a first name           |
        | whose first name is empty      |
        | whose first name is blank      |

    Scenario: two people of the same name are two people
      Given the event "Tea" with the subscribers Arthur, Ford and Arthur
      When it is requested
      Then it names Arthur, Ford and Arthur

  Rule: A list that changes while it is read names nobody twice

    Scenario: somebody joins between two pages
      Given an event with 150 subscribers
      And somebody joins at the top of the list while it is read
      When it is requested
      Then all 150 subscribers are named, in C42's order

  Rule: C42's count of the subscribers is not taken on trust
    C42 says how many subscribers there are, but it may be wrong. What counts is who is in the list.

    Scenario Outline: <number> subscribers, and C42 counts <count>
      Given an event with <number> subscribers
      And C42 counts <count> of them
      When it is requested
      Then all <number> subscribers are named, in C42's order

      Examples: it does not count
        | number | count |
        | 250    | none  |
        | 200    | none  |

      Examples: it counts too many
        | number | count |
        | 100    | 250   |
        | 30     | 250   |

      Examples: it counts too few
        | number | count |
        | 250    | 120   |
        | 250    | 0     |

    Scenario: a list that never ends
      Given an event whose list of subscribers never ends
      When it is requested
      Then the app is told that C42's answer cannot be used
      And C42 has been asked for 1000 pages of subscribers

  Rule: An event that is not there is reported as not found
    C42 says the same of an event that does not exist and of one that the proxy's token may not see.

    Scenario Outline: <which>
      Given <which>
      When it is requested
      Then the app is told that there is no such event

      Examples: it was never there, is there no more, or is not to be seen
        | which                                      |
        | an unknown event                           |
        | a deleted event                            |
        | an event that C42 leaves out of its answer |

    Scenario: the subscribers of an event that is not there do not matter
      Given a deleted event
      And C42 is broken when asked for the subscribers
      When it is requested
      Then the app is told that there is no such event

  Rule: Only a well-formed id reaches C42
    Ids are up to 128 letters, digits, hyphens and underscores. Anything else could change the question that C42 is asked.

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
        | a blank                  |
        | a line break             |
        | an unprintable character |

      Examples: of another script
        | character    |
        | the letter é |

    Scenario Outline: an id of <length> characters
      Given an unknown event whose id has <length> characters
      When it is requested
      Then the app is told that there is no such <what>

      Examples: the longest that there is, and one longer
        | length | what    |
        | 128    | event   |
        | 129    | address |

    Scenario: capital and small letters are different letters
      Given the event "Tea" with the subscriber Arthur
      When the event with the same id in capitals is requested
      Then the app is told that there is no such event

  Rule: Nothing but the event's id changes the answer

    Scenario: options that the proxy does not have
      Given the event "Tea" with the subscriber Arthur
      And it has been requested
      When it is requested with options that the proxy does not have
      Then it names Arthur
      And C42 has been asked once

  Rule: C42 is asked for the event and its subscribers at the same time

    Scenario: both calls are on their way together
      Given the event "Tea" with the subscriber Arthur
      And C42 answers neither call before it has received both
      When it is requested
      Then it names Arthur
