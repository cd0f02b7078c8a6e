from .gserec import SIDES as SIDES
from .gserec import GSERec as GSERec
from .search_recommender import MAX_PAIRS as MAX_PAIRS
from .search_recommender import SearchRecommender as SearchRecommender
