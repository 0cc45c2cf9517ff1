"""Commands: plain functions that handle them, in transactions of their own, once by id, now or later."""

from sa_eventsource.commands.attempt import Handled
from sa_eventsource.commands.command import Command
from sa_eventsource.commands.command_handlers import command_handler
from sa_eventsource.commands.commands import AsyncCommands, Commands
from sa_eventsource.commands.problems import ProblemDetails, problem_details

__all__ = [
    "AsyncCommands",
    "Command",
    "Commands",
    "Handled",
    "ProblemDetails",
    "command_handler",
    "problem_details",
]
