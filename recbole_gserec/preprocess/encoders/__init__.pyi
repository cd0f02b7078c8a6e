from .base import TextEncoder as TextEncoder
from .known_encoders import make_encoder as make_encoder
