"""What the simulated company runs: campaigns that use every kind of step, in two versions, and how soon each step may come at the earliest."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tests.engine import kit

HOUR = 3_600_000
DAY = 24 * HOUR

SHARED = """
EVENT list.joined
EVENT page.viewed
EVENT cart.updated WITH cart_id: text, total: number
EVENT order.placed WITH cart_id: text, total: number
EVENT loop.started WITH n: number
ATTRIBUTE plan: text ONE OF ["free", "trial", "paid"]
ATTRIBUTE renewal: datetime
WORKSPACE
  TIMEZONE "Europe/Prague"
  LIMIT 3 email PER 7 days ELSE HOLD UP TO 2 days
  QUIET FROM 21:00 TO 08:00 ELSE HOLD
END
SEGMENT newsletter
SEGMENT vip IS SUM event.total OF order.placed WITHIN 90 days >= 200
SEGMENT sleeping IS DID list.joined AND NOT DID page.viewed WITHIN 45 days
RULE join
  WHEN list.joined
    THEN segment.add newsletter
END
RULE pricing
  AT MOST 3 TIMES PER day
  WHEN page.viewed "/pricing"
    THEN points.add 5
END
RULE hot
  AT MOST 1 TIME PER 30 days
  WHEN contact.points BECOMES >= 20
    THEN points.subtract 20
    THEN crm.push lead
END
RULE endless
  WHEN loop.started
    THEN event.emit loop.started, n: event.n
END
RULE renewal
  WHEN 3 days BEFORE contact.renewal AT 09:00
    THEN email.send "renewal", class: "transactional"
END
RULE paid
  WHEN contact.plan CHANGES TO "paid"
    THEN webhook.post "https://hooks.example/paid", body: {plan: "paid"}
END
CAMPAIGN cart
  FOR EACH event.cart_id
  MODE RESTART
  EXIT "bought" WHEN order.placed
    THEN points.add 1
  WHEN cart.updated WHERE event.total >= 25
    AFTER 1 hour
    THEN email.send "cart", cart: event.cart_id, expires_after: 2 days
    WAIT UNTIL email.clicked "cart" UP TO 1 day
      THEN webhook.post "https://hooks.example/cart", body: {cart: event.cart_id}
    OTHERWISE
      IF contact IN vip
        THEN sms.send "Your cart {event.cart_id} waits"
      ELSE
        THEN email.send "discount"
      END
    END
END
CAMPAIGN winback
  REENTRY AFTER 60 days
  EXIT WHEN order.placed
  WHEN contact ENTERS sleeping
    SPLIT
      50% mail
        THEN email.send "miss_you"
      50% text
        THEN sms.send "We miss you"
    END
    REPEAT EVERY 7 days AT 11:00 UP TO 3 TIMES WHILE NOT DID page.viewed SINCE START
      THEN email.send "still_there"
    END
END
"""

WELCOME = """
CAMPAIGN welcome
  REENTRY NEVER
  HOLDOUT 10%
  PRIORITY 2
  DELIVER BETWEEN 09:00 AND 19:00 ON mon-fri
  EXIT WHEN contact LEAVES newsletter
  WHEN contact ENTERS newsletter
    THEN email.send "welcome_1"
    THEN points.add 10
    AFTER 2 days
    IF NOT DID email.opened "welcome_1" SINCE START
      THEN email.send "welcome_1_again"
    END
    AFTER 4 days AT 10:00
    THEN email.send "welcome_2"
    # here
    AFTER 1 month
    THEN email.send "month"
END
"""

FIRST = SHARED + WELCOME
SECOND = FIRST.replace("    # here", '    AFTER 3 days\n    THEN email.send "tips"')
"""The release of mid-year inserts a step, for people who stand before it and behind it."""

EARLIEST = {
    ("welcome", "welcome_1_again"): 2 * DAY,
    ("welcome", "welcome_2"): 6 * DAY - 2 * HOUR,
    ("welcome", "month"): 33 * DAY,
    ("cart", "cart"): HOUR,
}
"""(campaign, template) -> the least time since the contact entered. Worked out by hand from the text above: two hours less where days are
calendar days, because the clocks change."""

LONGEST = 75 * DAY
"""After which every journey of these campaigns is over, holds and the month included."""


@lru_cache(2)
def program(number: int) -> Any:
    """The first or second version, compiled."""
    return kit.program((FIRST, SECOND)[number], events=False)
