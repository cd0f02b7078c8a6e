from .columns import read_file as read_file
from .columns import read_option as read_option
from .log_settings import LogSettings as LogSettings
from .logs import convert_logs as convert_logs
from .logs import explain_logs as explain_logs
from .sources import find_in_folder as find_in_folder
