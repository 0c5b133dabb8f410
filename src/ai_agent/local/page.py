"""What the trial run shows: its steps while it starts, and then how to use it."""

import os
import sys

ADDRESS = """
  <ai-agent> is serving on {address}

  <Swagger UI:>  {address}/docs
"""

TRIAL = """\
  <Token:>       {token}

  <Say hello:>

curl {address}/api/chat \\
  -H 'Authorization: Bearer {token}' \\
  -H 'Content-Type: application/json' \\
  -d '{{"message": "Hello"}}'

  <Join with a front end:> give this database to its better-auth server, whose users are then known here too.
  better-auth's own migration adds the tables that are missing.

# The .env of the better-auth server, which is made with session: {{ modelName: "user_sessions" }}
DATABASE_URL={database_url}

  The conversations are kept in {directory}, and this URL in its file database-url.
"""

END = """\
  Replies come from {assistant}.
  Ctrl-C stops the service.

"""


def say(step: str) -> None:
    """Show a step to whoever waits at a terminal; a log has no use for it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{step} ...\n")
        sys.stderr.flush()


def show(page: str) -> None:
    """Print the page; a terminal shows the words in angle brackets in bold."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    sys.stdout.write(page.replace("<", bold).replace(">", plain))
    sys.stdout.flush()
