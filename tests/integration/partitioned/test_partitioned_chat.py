"""Chat, in tables that are split by user."""

from tests.integration.test_chat import *
