from .model_checks import ModelCheckError as ModelCheckError
from .model_checks import check_model as check_model
from .model_checks import checks_of as checks_of
