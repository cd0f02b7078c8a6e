from .statistics import collect_from_folder as collect_from_folder
from .statistics import collect_statistics as collect_statistics
from .statistics_report import print_report as print_report
from .statistics_report import write_report as write_report
from .statistics_report import write_statistics as write_statistics
