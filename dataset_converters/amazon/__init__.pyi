from .amazon import convert_amazon as convert_amazon
