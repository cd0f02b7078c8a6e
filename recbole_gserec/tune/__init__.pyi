from .request import TuneRequest as TuneRequest
from .search import run_sweep as run_sweep
from .search import tune_models as tune_models
from .sweep import STOPPED as STOPPED
from .sweep import SWEEP_FILE as SWEEP_FILE
from .sweep import ComputeResources as ComputeResources
from .sweep import read_trials as read_trials
from .winner import WINNER_FILE as WINNER_FILE
