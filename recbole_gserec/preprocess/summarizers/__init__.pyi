from .base import Completion as Completion
from .base import Summarizer as Summarizer
from .base import TemplateSummarizer as TemplateSummarizer
from .known_summarizers import SUMMARIZERS as SUMMARIZERS
