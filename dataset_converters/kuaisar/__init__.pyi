from .kuaisar import convert_kuaisar as convert_kuaisar
