"""Commands: plain functions that handle them, in transactions of their own, once by id, now or later."""

from sa_eventsource.commands.attempt import Attempt, Handled
from sa_eventsource.commands.command import Command
from sa_eventsource.commands.command_handlers import command_handler, handler_of, handlers_on
from sa_eventsource.commands.command_rows import require_table
from sa_eventsource.commands.commands import AsyncCommands, Commands
from sa_eventsource.commands.problems import ProblemDetails, problem_details
from sa_eventsource.commands.scheduling import CATCH, async_schedule, schedule, schedule_time_out
from sa_eventsource.commands.waiting_commands import WaitingCommand, discard_command, retry_command, waiting_commands

__all__ = [
    "CATCH",
    "AsyncCommands",
    "Attempt",
    "Command",
    "Commands",
    "Handled",
    "ProblemDetails",
    "WaitingCommand",
    "async_schedule",
    "command_handler",
    "discard_command",
    "handler_of",
    "handlers_on",
    "problem_details",
    "require_table",
    "retry_command",
    "schedule",
    "schedule_time_out",
    "waiting_commands",
]
